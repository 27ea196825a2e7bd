# syntax=docker/dockerfile:1
# A static binary and certificate authorities, nothing else: no shell, no root.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
ARG COMMIT=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /out/rowcall ./cmd/rowcall

FROM scratch
LABEL org.opencontainers.image.title="rowcall" \
      org.opencontainers.image.description="Row writes call webhooks" \
      org.opencontainers.image.source="https://github.com/rowcall/rowcall" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/rowcall /rowcall
USER 65532:65532
ENV ROWCALL_LISTEN=0.0.0.0:8080
EXPOSE 8080
# Longer than it waits for its store at start (ROWCALL_DATABASE_WAIT).
HEALTHCHECK --interval=10s --timeout=4s --start-period=70s --retries=3 CMD ["/rowcall", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/rowcall"]
CMD ["serve"]
