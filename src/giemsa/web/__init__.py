"""The dashboard and the REST API, in one process: `giemsa serve`.

    settings.py   what a server is told, and what it refuses to start with
    app.py        puts it together: one FastAPI application, behind what every request passes
    state.py      what the routes work with, as one value
    server.py     listens; protocol.py bounds connections and headers, logs.py the log
    guard.py      what every request passes: headers, token, origin, security headers, counting
    limits.py     what every body passes: sizes, memory, deadlines
    problems.py   errors as `application/problem+json`, or as a page for a browser that goes astray
    uploads.py    a body in pieces -> pictures, in a private temporary folder
    batching.py   pictures of many requests -> runs of the model, in bounded memory
    smears.py     photographs of fields -> a count, a few smears at a time
    counts.py     figures for Prometheus
    figures.py    a model's labelled predictions -> curves with intervals
    database.py   answers of reviewers, appended and never changed; calls.py keeps its troubles to itself
    agreement.py  Cohen's kappa with an interval; readers.py says who is compared
    schemas.py    what answers have in common; exchange.py what callers prefer, and whether they are there
    routes/       the routes, a subject a module
    markup.py     the parts of the page; templates/ what they are made of, static/ what they do, in ES modules

The page has no way of its own: it calls the API like any other client.
"""
