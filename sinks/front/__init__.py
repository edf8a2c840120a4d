"""ClickHouse's HTTP interface over an embedded store, so that several processes and Grafana can use it at once.

``rights``: what each user may do, as the engine's own roles and row policies. ``guard``: which statements are let through.
``request``: what a client sent. ``reply``: how it is answered. ``engine``: the engine and its sessions. ``server``: HTTP.
"""
