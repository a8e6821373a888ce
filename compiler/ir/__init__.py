"""The intermediate representation: dimensions, types, operations, graphs and their text form."""
