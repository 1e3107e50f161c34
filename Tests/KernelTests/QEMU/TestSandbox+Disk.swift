import Concurrency
import Disks
import Glibc
import Hypervisor
import LinuxSystem
import SystemPackage

extension TestSandbox {
  /// The new disk refers to the old one by its layer name, the VMM by its own name, and opens it again.
  func switchDisk(from old: Disk, over layer: FilePath) async throws {
    try SystemError.check("link", layer.string) { link(old.path.string, layer.string) }
    let new = try await makeDisk(DiskBase(path: layer, format: .qcow2, digest: old.base.digest))
    try await machine.switchDisk(to: DiskAttachment(path: new.path.string, format: .qcow2))
    state.withLock { $0.disk = new }
  }
}
