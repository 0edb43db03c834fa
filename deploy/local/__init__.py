"""The machinery that runs Farebox on one machine: embedded servers, supervisor, demo."""
