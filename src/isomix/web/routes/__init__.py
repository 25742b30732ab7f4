"""The pages' questions, a module a page."""
