"""A pretend Atlassian Cloud organisation, served over HTTP by its own process.

It knows nothing of the product that is tried against it: it imports the standard library only, and speaks the paths,
bodies and errors of Atlassian's published documents, so that any client of those can work against it.
"""
