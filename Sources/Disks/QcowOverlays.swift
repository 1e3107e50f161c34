import Glibc
import LinuxSystem
package import Model
package import SystemPackage

/// Disks as qcow2 overlays, for hosts without device-mapper. Making one takes microseconds and 12 KiB.
package struct QcowOverlays: DiskBackend {
  /// Deadline of `flatten`, longer than a usual disk needs to read and write a disk of the largest size.
  package static let defaultFlattenDeadline: Duration = .seconds(3_600)

  private let flattenDeadline: Duration

  package init(flattenDeadline: Duration = defaultFlattenDeadline) {
    self.flattenDeadline = flattenDeadline
  }

  package func create(
    name: String, base: DiskBase, sizeBytes: Int64, directory: FilePath, ownerUID: UInt32
  ) async throws(MartletError) -> Disk {
    let path = directory.appending("\(name).qcow2")
    let minimum = try await perform("the template's image could not be read") { () throws(SystemError) in
      try OverlayFile.sizeBytes(of: base)
    }
    try Self.check(sizeBytes, atLeast: minimum)
    guard base.path.isAbsolute, (1...QcowHeader.maximumBackingNameBytes).contains(base.path.string.utf8.count) else {
      throw MartletError(.internalError, "the template's image has a path that cannot be used")
    }
    let header = QcowHeader(sizeBytes: sizeBytes, backingName: base.path.string, backingFormat: base.format)
    return try await perform("the sandbox's disk could not be made") { () throws(SystemError) in
      try OverlayFile.write(header, to: path, ownerUID: ownerUID)
      return Disk(path: path, format: .qcow2, sizeBytes: sizeBytes, base: base)
    }
  }

  package func remove(_ disk: Disk) async throws(MartletError) {
    try await perform("the sandbox's disk could not be removed") { () throws(SystemError) in
      try OverlayFile.remove(disk.path)
    }
  }

  package func freeze(_ disk: Disk, as layer: FilePath) async throws(MartletError) -> DiskBase {
    try await perform("the sandbox's disk could not be frozen") { () throws(SystemError) in
      try OverlayFile.freeze(disk.path, as: layer)
      return DiskBase(path: layer, format: disk.format, digest: disk.base.digest)
    }
  }

  package func capture(_ disk: Disk, as layer: FilePath) async throws(MartletError) {
    try await perform("the sandbox's disk could not be captured") { () throws(SystemError) in
      try OverlayFile.capture(disk.path, as: layer)
    }
  }

  package func link(_ layer: FilePath, as name: FilePath) async throws(MartletError) {
    try await perform("the snapshot's disk could not be used") { () throws(SystemError) in
      try OverlayFile.link(layer, as: name)
    }
  }

  package func seal(_ layer: FilePath) async throws(MartletError) {
    try await perform("the sandbox's disk could not be sealed") { () throws(SystemError) in
      try OverlayFile.seal(layer)
    }
  }

  /// `qemu-img convert` with a backing file would copy only the disk's own clusters and lose those of the layers
  /// between. `rebase` compares the present backing content with the future one and writes the difference into the
  /// copy. Source: qemu-img(1).
  package func merge(_ disk: Disk, onto base: DiskBase, to layer: FilePath) async throws(MartletError) {
    let failure = "the sandbox's disk layers could not be merged"
    do {
      try await perform(failure) { () throws(SystemError) in try SparseFile.copy(disk.path, to: layer, mode: 0o644) }
      try await rebase(layer, onto: base, failure)
    } catch {
      Glibc.unlink(layer.string)
      throw error
    }
  }

  /// Without a cache flush at its end qemu-img is several times faster. VMs may use the layers below, but only read
  /// them.
  private func rebase(_ layer: FilePath, onto base: DiskBase, _ failure: String) async throws(MartletError) {
    do {
      try await Tool.run(
        "qemu-img",
        [
          "rebase", "-U", "-f", "qcow2", "-t", "unsafe", "-b", base.path.string, "-F", base.format.rawValue,
          layer.string,
        ],
        deadline: flattenDeadline
      ).checked()
    } catch {
      // qemu-img reports a full disk only in its text, if at all. Source: strerror(3).
      guard case .failed(_, let text) = error.reason,
        text.contains("No space left on device") || FileSystemSpace.isExhausted(at: layer.removingLastComponent())
      else {
        throw MartletError(.internalError, failure, cause: error)
      }
      throw Self.mappedError(SystemError("qemu-img", .noSpace), failure)
    }
  }

  package func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64 {
    do {
      return try OverlayFile.allocatedBytes(of: disk.path)
    } catch {
      throw Self.mappedError(error, "the sandbox's disk could not be measured")
    }
  }

  package func flatten(_ disk: Disk, to image: FilePath) async throws(MartletError) -> Int64 {
    let partial = FilePath(image.string + ".partial")
    do {
      // Without a cache flush at its end qemu-img is several times faster; the one fsync below is sufficient.
      try await Tool.run(
        "qemu-img",
        [
          "convert", "-f", disk.format.rawValue, "-O", "raw", "-S", "4k", "-W", "-m", "8", "-t", "unsafe",
          disk.path.string, partial.string,
        ],
        deadline: flattenDeadline
      ).checked()
    } catch {
      Glibc.unlink(partial.string)
      throw MartletError(.internalError, "the sandbox's disk could not be flattened", cause: error)
    }
    return try await perform("the sandbox's disk could not be flattened") { () throws(SystemError) in
      try OverlayFile.publish(partial, as: image)
      return try OverlayFile.allocatedBytes(of: image)
    }
  }

  /// Runs file operations on a blocking thread and maps errors to `MartletError`.
  private func perform<Value: Sendable>(
    _ failure: String, _ body: @escaping @Sendable () throws(SystemError) -> Value
  ) async throws(MartletError) -> Value {
    do {
      return try await BlockingPool.shared.run(body)
    } catch {
      throw Self.mappedError(error, failure)
    }
  }

  private static func check(_ sizeBytes: Int64, atLeast minimum: Int64) throws(MartletError) {
    guard sizeBytes >= minimum else {
      let needed = (minimum + 1_048_575) / 1_048_576
      throw MartletError(
        .invalidRequest, "disk_size_mb must be at least \(needed), the size of the template's file system")
    }
    guard sizeBytes > 0, sizeBytes % 512 == 0, sizeBytes <= QcowHeader.maximumSizeBytes else {
      throw MartletError(
        .invalidRequest, "the disk's size must be a multiple of 512 bytes up to \(QcowHeader.maximumSizeBytes)")
    }
  }

  private static func mappedError(_ error: SystemError, _ failure: String) -> MartletError {
    switch error.errno {
    case .noSpace, .diskQuotaExceeded:
      MartletError(
        .insufficientStorage,
        "\(failure): the host's storage is full; delete sandboxes or snapshots, or try again later", cause: error)
    default:
      MartletError(.internalError, failure, cause: error)
    }
  }
}
