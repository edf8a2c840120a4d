"""Where results go: ClickHouse, on a server or embedded."""
