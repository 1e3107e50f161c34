#!/bin/bash
# Generates Sources/Protos/Generated from protos/. The result is committed: run this only after changing a .proto file.
# Needs protoc (package protobuf-compiler) and protoc-gen-swift of the swift-protobuf release in Package.resolved; give its
# path in PROTOC_GEN_SWIFT, or let this script build it in a scratch directory (takes a minute).
set -euo pipefail
cd "$(dirname "$0")/.."

source=.build/checkouts/swift-protobuf
[[ -d $source ]] || swift package resolve
plugin=${PROTOC_GEN_SWIFT:-}
if [[ -z $plugin ]]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  swift build --package-path "$source" --scratch-path "$scratch" --product protoc-gen-swift
  plugin=$(swift build --package-path "$source" --scratch-path "$scratch" --show-bin-path)/protoc-gen-swift
fi

protoc --proto_path=protos --proto_path="$source/Protos/Sources/SwiftProtobuf" \
  --plugin=protoc-gen-swift="$plugin" \
  --swift_opt=Visibility=Package --swift_opt=UseAccessLevelOnImports=true --swift_out=Sources/Protos/Generated protos/*.proto
