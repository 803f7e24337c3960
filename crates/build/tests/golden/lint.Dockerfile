# check=experimental=all
ARG EMPTY
ARG TAG=latest
# wrong comment
FROM x:${TGA} AS Upper
FROM --platform=linux/arm64 ${EMPTY} as scratch
FROM --platform=$TARGETPLATFORM busybox AS scratch
MAINTAINER m
ENV OLD form
LABEL old form
ENV API_KEY=1 PUBLIC_KEY=2
ARG password token_file
WORKDIR rel
WORKDIR rel2
run echo a \

 && echo b
CMD a
CMD ["b"]
ENTRYPOINT c
Expose 80/TCP 127.0.0.1:1:2
COPY $UNKNOWN ignored/file /
# check=skip=UndefinedVar
COPY $UNKNOWN /
COPY --from=x ignored /
ADD ignored /
USER $PATHH
SHELL ["x"]
CMD fine
