# syntax=docker/dockerfile:1 extra
# escape=\
ARG BASE=busybox
# base what everything stands on
FROM --platform=linux/amd64 ${BASE}:latest AS Base
MAINTAINER someone <a@b>
ENV A=1 B="two words" C=a\ b
ENV OLD form of it
LABEL "k 1"="v" k2=v2
EXPOSE 443 80/udp 1000-1002
VOLUME /a /b
VOLUME ["/c d"]
USER u:g
WORKDIR sub/dir
STOPSIGNAL SIGKILL
SHELL ["/bin/ash", "-ec"]
RUN --mount=type=cache,target=/c --network=none --security=insecure echo "a  b"
RUN ["/bin/true", "x"]
CMD echo hi
CMD ["a"]
ENTRYPOINT []
HEALTHCHECK --interval=1m30s --retries=2 CMD curl x
HEALTHCHECK NONE
ONBUILD RUN echo later
COPY --from=base --chown=1:2 --chmod=u+x --link --parents --exclude=*.md --exclude=x a b /dst/
ADD --checksum=sha256:00 --keep-git-dir --unpack=false https://x/y z/
ARG X Y=2 Z="a b"
