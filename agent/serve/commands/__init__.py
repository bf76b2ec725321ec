"""What operators ask for, from the command line and with the buttons of the page: one module a wish."""
