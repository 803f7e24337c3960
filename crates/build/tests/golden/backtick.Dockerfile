# escape=`
FROM busybox
COPY a `
     C:\dir
RUN echo \
ENV P=C:\x Q=a` b
