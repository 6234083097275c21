"""The studio: a local web page and a REST interface on the same engine as the command line and Python.

`restora.studio.app.create_app` makes the application, `restora.studio.server.serve` runs it. The extra ``studio`` brings FastAPI
and uvicorn; nothing slow (torch among it) is imported before the first picture or model is asked for.
"""
