"""The dashboard and the REST API, in one process: `giemsa serve`.

    settings.py   what a server is told, and what it refuses to start with
    app.py        puts it together: one FastAPI application with Dash on it
    guard.py      what every request passes: token, origin, security headers, counting
    problems.py   errors as `application/problem+json`
    uploads.py    a body in pieces -> pictures, within limits, in a private temporary folder
    batching.py   pictures of many requests -> runs of the model, in bounded memory
    api.py        the routes of the API, and what it says of itself
    smears.py     photographs of fields -> a count, a few smears at a time
    counts.py     figures for Prometheus
    figures.py    a model's labelled predictions -> curves with intervals
    database.py   answers of reviewers, appended and never changed
    reviews.py    the routes of the review
    page.py       the page's layout, in Dash; what it does is in assets/

The page has no way of its own: it calls the API like any other client.
"""
