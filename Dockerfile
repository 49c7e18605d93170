# One file, two images: docker build --target server, docker build --target client. The compiler runs on the machine
# that builds and cross-compiles for --platform, so no architecture is emulated.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev
# What a debugger needs is left out except for debugging; skaffold sets the second one.
ARG STRIP="-s -w"
ARG SKAFFOLD_GO_GCFLAGS=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -gcflags="$SKAFFOLD_GO_GCFLAGS" -ldflags="$STRIP -X main.version=$VERSION" -o /out/ ./server ./client

FROM gcr.io/distroless/static-debian12:nonroot AS server
# It is Go's default, and how skaffold debug recognises Go.
ENV GOTRACEBACK=single
COPY --from=build /out/server /server
EXPOSE 50051 50052 9464
ENTRYPOINT ["/server"]

FROM gcr.io/distroless/static-debian12:nonroot AS client
ENV GOTRACEBACK=single
COPY --from=build /out/client /client
EXPOSE 50053 9465
ENTRYPOINT ["/client"]
CMD ["serve"]
