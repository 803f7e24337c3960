FROM a
COPY --chown=a --chown=b a b
