FROM a
HEALTHCHECK --timeout=x CMD x
