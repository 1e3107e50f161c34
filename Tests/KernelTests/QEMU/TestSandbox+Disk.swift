import Concurrency
import Disks
import Glibc
import Hypervisor
import LinuxSystem
import Model
import Snapshots
import SystemPackage

extension TestSandbox {
  /// Makes a new overlay over the old one, which is captured as `layer` after the switch.
  func switchDisk(from old: Disk, over layer: FilePath) async throws {
    try await switchDisk(from: old)
    try await fixture.disks.capture([old], as: layer)
  }

  func switchDisk(from old: Disk) async throws {
    let new = try await makeDisk(DiskBase(path: old.path, format: .qcow2, digest: old.base.digest))
    try await machine.switchDisk(to: DiskAttachment.file(try await fixture.disks.open(new, over: []).disk))
    state.withLock { $0.disk = new }
  }

  /// The disk over the published layers, as open files.
  func attachment() async throws -> DiskAttachment {
    let open = try await fixture.disks.open(try disk, over: state.withLock { $0.layers })
    return DiskAttachment(
      disk: DiskAttachment.file(open.disk), layers: open.layers.map { DiskAttachment.file($0) })
  }

  func layer(of id: GenerationID) -> DiskLayer {
    DiskLayer(
      name: "layer-" + id.uuidString.filter { $0 != "-" }.prefix(20), path: fixture.store.diskLayerPath(of: id),
      format: .qcow2)
  }
}

extension DiskAttachment {
  static func file(_ file: OpenDisk.File) -> File {
    File(
      name: file.name, format: file.format == .raw ? .raw : .qcow2, readable: file.readable, writable: file.writable)
  }
}
