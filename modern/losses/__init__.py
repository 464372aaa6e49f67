"""Loss terms as small pure functions, and the table that says which are summed with which weight."""
