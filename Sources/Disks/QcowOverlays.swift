import Glibc
import LinuxSystem
package import Model
import Qcow
package import SystemPackage

/// Disks as qcow2 overlays, for hosts without device-mapper. Making one takes microseconds and 12 KiB.
///
/// No file names another one: what lies below an overlay is told to the VMM, as open files.
package struct QcowOverlays: DiskBackend {
  private static let layerMode: UInt32 = 0o400

  package init() {}

  package func create(
    name: String, base: DiskBase, sizeBytes: Int64, directory: FilePath
  ) async throws(MartletError) -> Disk {
    let path = directory.appending("\(name).qcow2")
    let minimum = try await perform("the template's image could not be read") { () throws(QcowError) in
      try OverlayFile.sizeBytes(of: base)
    }
    try Self.check(sizeBytes, atLeast: minimum)
    return try await performing("the sandbox's disk could not be made") { () throws(SystemError) in
      try OverlayFile.write(QcowHeader.emptyOverlay(sizeBytes: sizeBytes), to: path)
      return Disk(path: path, format: .qcow2, sizeBytes: sizeBytes, base: base)
    }
  }

  package func open(_ disk: Disk, over layers: [DiskLayer]) async throws(MartletError) -> OpenDisk {
    let files = try await performing("the sandbox's disk could not be opened") { () throws(SystemError) in
      OpenDisk.File(
        name: disk.name, format: disk.format, readable: try OverlayFile.open(disk.path, O_RDONLY, owner: geteuid()),
        writable: try OverlayFile.open(disk.path, O_RDWR, owner: geteuid()))
    }
    do {
      let below = try await BlockingPool.shared.run { () throws(QcowError) in
        var files: [OpenDisk.File] = []
        for layer in layers { files.append(try Self.open(layer)) }
        return files
      }
      return OpenDisk(disk: files, layers: below)
    } catch {
      if case .system(let failure) = error, !Self.isDamage(failure.errno) {
        throw Self.meaning(of: failure, "the sandbox's disk could not be opened")
      }
      throw MartletError(
        .snapshotDamaged, "a layer of the sandbox's disk cannot be used; use another snapshot", cause: error)
    }
  }

  /// Whether it is the file's own fault that it cannot be opened.
  private static func isDamage(_ errno: Errno) -> Bool {
    [.noSuchFileOrDirectory, .tooManySymbolicLinkLevels, .permissionDenied, .invalidArgument].contains(errno)
  }

  /// The header of a layer was written by us, and is compared with that once more before QEMU reads it.
  private static func open(_ layer: DiskLayer) throws(QcowError) -> OpenDisk.File {
    let descriptor: OwnedDescriptor
    do throws(SystemError) {
      descriptor = try OverlayFile.open(layer.path, O_RDONLY, owner: geteuid())
    } catch {
      throw .system(error)
    }
    // Layers of earlier versions name the file below; QEMU is told another one.
    if layer.format == .qcow2 { try QcowLayer.header(of: descriptor, ignoresBackingName: true) }
    return OpenDisk.File(name: layer.name, format: layer.format, readable: descriptor)
  }

  package func remove(_ disk: Disk) async throws(MartletError) {
    try await performing("the sandbox's disk could not be removed") { () throws(SystemError) in
      try OverlayFile.remove(disk.path)
    }
  }

  package func capture(_ disks: [Disk], as layer: FilePath) async throws(MartletError) {
    try await perform("the sandbox's disk could not be captured") { () throws(QcowError) in
      var sources: [QcowLayer] = []
      for disk in disks { sources.append(try Self.source(disk)) }
      try QcowLayerWriter.write(sources, to: layer, mode: Self.layerMode)
    }
  }

  /// Of a disk that a VMM opened by name, its user owns the file.
  private static func source(_ disk: Disk) throws(QcowError) -> QcowLayer {
    let isSelfContained = disk.isSelfContained ?? false
    let descriptor: OwnedDescriptor
    do throws(SystemError) {
      descriptor = try OverlayFile.open(disk.path, O_RDONLY, owner: isSelfContained ? geteuid() : nil)
    } catch {
      throw .system(error)
    }
    return try QcowLayer(descriptor, sizeBytes: disk.sizeBytes, ignoresBackingName: !isSelfContained)
  }

  package func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64 {
    do throws(SystemError) {
      return try OverlayFile.allocatedBytes(of: disk.path)
    } catch {
      throw Self.meaning(of: error, "the sandbox's disk could not be measured")
    }
  }

  /// Runs file work on a thread that may block and gives its failure a meaning for the tenant.
  private func performing<Value: Sendable>(
    _ failure: String, _ body: @escaping @Sendable () throws(SystemError) -> Value
  ) async throws(MartletError) -> Value {
    do {
      return try await BlockingPool.shared.run(body)
    } catch {
      throw Self.meaning(of: error, failure)
    }
  }

  private func perform<Value: Sendable>(
    _ failure: String, _ body: @escaping @Sendable () throws(QcowError) -> Value
  ) async throws(MartletError) -> Value {
    do {
      return try await BlockingPool.shared.run(body)
    } catch {
      switch error {
      case .system(let error): throw Self.meaning(of: error, failure)
      case .format(let error):
        throw MartletError(
          .agentError, "\(failure): its metadata were changed by something other than the microVM's own disk driver",
          cause: error)
      }
    }
  }

  private static func check(_ sizeBytes: Int64, atLeast minimum: Int64) throws(MartletError) {
    guard sizeBytes >= minimum else {
      let needed = (minimum + 1_048_575) / 1_048_576
      throw MartletError(
        .invalidRequest, "disk_size_mb must be at least \(needed), the size of the template's file system")
    }
    guard sizeBytes > 0, sizeBytes % 512 == 0, sizeBytes <= QcowGeometry.maximumSizeBytes else {
      throw MartletError(
        .invalidRequest, "the disk's size must be a multiple of 512 bytes up to \(QcowGeometry.maximumSizeBytes)")
    }
  }

  private static func meaning(of error: SystemError, _ failure: String) -> MartletError {
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
