FROM \
  # a comment among the lines
  busybox

RUN echo a \

  && echo b \  
  && echo c
  # indented comment
RUN echo \\
run echo d\
e
