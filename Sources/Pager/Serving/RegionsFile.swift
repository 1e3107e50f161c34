import Glibc
import LinuxSystem
import SystemPackage

/// `memory-regions.json` of a run directory, open for the process's whole life: what a VMM said of its memory, for a
/// successor and for snapshots.
struct RegionsFile {
  private let descriptor: OwnedDescriptor
  private let path: String

  init(in runDirectory: FilePath) throws(SystemError) {
    path = runDirectory.appending(MemoryRegions.fileName).string
    descriptor = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
  }

  /// What is in it; empty when no VMM has said anything.
  func read() throws(SystemError) -> [UInt8] {
    var content = [UInt8](repeating: 0, count: MemoryRegions.maximumBytes + 1)
    let count = try SystemError.check("pread", path) { pread(descriptor.rawValue, &content, content.count, 0) }
    return Array(content[0..<count])
  }

  /// Keeps the regions, unless the library that is preloaded into QEMU has done so.
  func store(_ regions: MemoryRegions) throws(SystemError) {
    guard try read().isEmpty else { return }
    let bytes = Array(regions.encoded.utf8)
    try SystemError.check("pwrite", path) { pwrite(descriptor.rawValue, bytes, bytes.count, 0) }
  }
}
