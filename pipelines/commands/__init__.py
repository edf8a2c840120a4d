"""The commands, by what a person wants of them. Each gathers settings, calls one function, shows what it returns."""
