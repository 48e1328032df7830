"""The `kopeck` command, by area, one file a group of commands."""
