import LinuxSystem
import Model
import SystemPackage

/// A generation together with its header, validated against each other.
struct OpenedGeneration {
  let generation: Generation
  let header: MemoryHeader
}

extension SnapshotStore {
  /// Reads and validates a generation for `generation(_:)`: manifest, header, and presence and size of every file in
  /// the chain.
  func opened(_ id: GenerationID) throws(MartletError) -> OpenedGeneration {
    let manifest = try checkedManifest(of: id)
    let generation = Generation(manifest: manifest, directory: path(of: id))
    let header = try header(
      of: id, at: generation.headerPath, digest: manifest.digests[SnapshotFile.memoryHeader.rawValue])
    guard header.memoryBytes == manifest.memoryBytes else {
      throw .unusable(id, .memoryHeader, .invalid("memory size"))
    }
    guard header.layers.dropFirst().map(\.generation) == manifest.memoryParents else {
      throw .unusable(id, .memoryHeader, .invalid("list of generations"))
    }
    try checkLayers(header.layers[...])
    try checkSizes(SnapshotFile.content, of: manifest)
    for parent in manifest.diskParents {
      try checkSizes([.diskLayer], of: try checkedManifest(of: parent))
    }
    return OpenedGeneration(generation: generation, header: header)
  }

  /// Reads the manifest and checks its digest and id.
  func checkedManifest(of id: GenerationID) throws(MartletError) -> GenerationManifest {
    guard try isPresent(path(of: id)) else { throw MartletError(.notFound, "snapshot \(id) does not exist") }
    let path = path(of: id).appending(SnapshotFile.manifest.rawValue)
    let bytes: [UInt8]
    do {
      bytes = try StoreFile.read(path, maximumBytes: GenerationManifest.maximumFileBytes)
    } catch {
      throw .unreadable(id, .manifest, error)
    }
    return try decode(bytes, of: id)
  }

  func decode(_ bytes: [UInt8], of id: GenerationID) throws(MartletError) -> GenerationManifest {
    do throws(SnapshotFormatError) {
      let manifest = try GenerationManifest(decoding: bytes)
      guard manifest.id == id else { throw SnapshotFormatError.invalid("identity") }
      return manifest
    } catch {
      throw .unusable(id, .manifest, error)
    }
  }

  /// Reads the header in the file at `path`, which must be that of `id`.
  /// - Parameter digest: expected SHA-256 of the file, if known.
  func header(of id: GenerationID, at path: FilePath, digest: String? = nil) throws(MartletError) -> MemoryHeader {
    let bytes: [UInt8]
    do {
      bytes = try StoreFile.read(path, maximumBytes: MemoryHeader.maximumFileBytes)
    } catch {
      throw .unreadable(id, .memoryHeader, error)
    }
    do throws(SnapshotFormatError) {
      let header = try MemoryHeader(decoding: bytes)
      guard header.id == id else { throw SnapshotFormatError.invalid("identity") }
      guard digest.map({ $0 == ContentDigest.of(bytes) }) ?? true else { throw SnapshotFormatError.wrongChecksum }
      return header
    } catch {
      throw .unusable(id, .memoryHeader, error)
    }
  }

  /// Compares header and size of each layer with the values in the header that refers to it.
  func checkLayers(_ layers: ArraySlice<MemoryHeader.Layer>) throws(MartletError) {
    for layer in layers {
      _ = try MemoryLayer.open(layer, path: path(of: layer.generation).appending(SnapshotFile.memoryLayer.rawValue))
    }
  }

  private func checkSizes(_ files: [SnapshotFile], of manifest: GenerationManifest) throws(MartletError) {
    for file in files {
      let path = path(of: manifest.id).appending(file.rawValue)
      let status: FileStatus?
      do {
        status = try FileStatus.of(path.string, followingLinks: false)
      } catch {
        throw .unreadable(manifest.id, file, error)
      }
      guard let status, status.kind == .file else { throw .damaged(manifest.id, file, "is missing") }
      guard status.sizeBytes == manifest.sizes[file.rawValue] else { throw .unusable(manifest.id, file, .wrongSize) }
    }
  }
}
