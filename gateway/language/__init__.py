"""Calls to language models: what they may cost is reserved before they go out, what they cost is read off their answers."""
