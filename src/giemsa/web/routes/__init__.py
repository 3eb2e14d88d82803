"""The routes of the API and of the page, a subject a module."""
