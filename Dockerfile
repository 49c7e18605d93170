# One file, two images: docker build --target server, docker build --target client. The compiler runs on the machine
# that builds and cross-compiles for --platform, so no architecture is emulated.
#
# Releases name these images by digest. The same commit on the same ones makes the same image; make reproducible shows it.
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev
# What a debugger needs is left out except for debugging; skaffold sets the second one.
ARG STRIP="-s -w"
ARG SKAFFOLD_GO_GCFLAGS=
# -a compiles what the cache has, too.
ARG GOFLAGS=
# When the files were changed, in seconds since 1970. BuildKit takes it for the whole image.
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -gcflags="$SKAFFOLD_GO_GCFLAGS" -ldflags="$STRIP -X main.version=$VERSION" -o /out/ ./server ./client && \
    touch -d "@$SOURCE_DATE_EPOCH" /out/*

FROM $BASE_IMAGE AS server
# It is Go's default, and how skaffold debug recognises Go.
ENV GOTRACEBACK=single
COPY --from=build /out/server /server
EXPOSE 50051 50052 9464
ENTRYPOINT ["/server"]

FROM $BASE_IMAGE AS client
ENV GOTRACEBACK=single
COPY --from=build /out/client /client
EXPOSE 50053 9465
ENTRYPOINT ["/client"]
CMD ["serve"]
