# Holds a pod's namespaces open. Context: the folder of the sandbox's programs.
FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
