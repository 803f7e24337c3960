FROM a
RUN x
