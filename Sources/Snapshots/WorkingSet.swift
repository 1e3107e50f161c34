import CLinux
import Glibc
package import LinuxSystem
import Model
package import SystemPackage

/// Pages that a guest needs first after a restore, packed so that one sequential read loads all of them.
///
/// The file is only a cache: a damaged file, or one that does not fit the memory, is ignored. Its pages are compared
/// with the checksums of the memory's layers, so that a working set cannot introduce other bytes than the layers hold.
package final class WorkingSet: @unchecked Sendable {
  // Unchecked because of the buffer, which is not written after `init`.
  /// Bounds the set to 32 MiB: it saves round trips and must not load the whole memory.
  package static let maximumPages = 8_192

  struct Run: Equatable {
    var first: UInt32
    var count: UInt32
  }

  private let file: UnsafeMutableRawBufferPointer
  private let dataOffset: Int
  let runs: [Run]

  /// Loads the working set at `path`; nil unless the file exists and is valid for `image`. Blocks.
  package static func load(_ path: FilePath, for image: MemoryImage) -> WorkingSet? {
    guard let file = try? open(path) else { return nil }
    return load(file, for: image)
  }

  /// Opens what may be a working set.
  package static func open(_ path: FilePath) throws(SystemError) -> OwnedDescriptor {
    // What is no plain file has no size, and must not be waited for.
    try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  }

  /// The same of a file that is open.
  package static func load(_ descriptor: OwnedDescriptor, for image: MemoryImage) -> WorkingSet? {
    guard let file = try? contents(of: descriptor) else { return nil }
    guard let layout = WorkingSetLayout(decoding: UnsafeRawBufferPointer(file), pageCount: image.pageCount) else {
      file.deallocate()
      return nil
    }
    let set = WorkingSet(file, layout)
    return set.fits(image) ? set : nil
  }

  private init(_ file: UnsafeMutableRawBufferPointer, _ layout: WorkingSetLayout) {
    self.file = file
    dataOffset = layout.dataOffset
    runs = layout.runs
  }

  deinit {
    file.deallocate()
  }

  package var pageCount: Int { runs.reduce(0) { $0 + Int($1.count) } }

  /// The content of `count` pages of the set, counted in the order of its runs.
  func bytes(from first: Int, count: Int) -> UnsafeRawBufferPointer {
    let offset = dataOffset + first * MemoryGeometry.pageBytes
    return UnsafeRawBufferPointer(rebasing: file[offset..<(offset + count * MemoryGeometry.pageBytes)])
  }

  /// Calls `body` with each run of consecutive pages, in ascending order.
  package func forEachRun<Failure: Error>(
    _ body: (_ pages: Range<PageIndex>, _ bytes: UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    var offset = dataOffset
    for run in runs {
      let count = Int(run.count) * MemoryGeometry.pageBytes
      let pages = Int(run.first)..<(Int(run.first) + Int(run.count))
      try body(pages, UnsafeRawBufferPointer(rebasing: file[offset..<(offset + count)]))
      offset += count
    }
  }

  /// Whether every page has the checksum that the memory's layers have for it; a valid working set has no zero pages.
  private func fits(_ image: MemoryImage) -> Bool {
    var isRight = true
    forEachRun { pages, bytes in
      guard isRight else { return }
      for extent in image.extents(in: pages) {
        let offset = (extent.pages.lowerBound - pages.lowerBound) * MemoryGeometry.pageBytes
        guard case .stored(let stored) = extent.source, stored.matches(bytes.baseAddress.map { $0 + offset }) else {
          return isRight = false
        }
      }
    }
    return isRight
  }

  private static func contents(of descriptor: OwnedDescriptor) throws(SystemError) -> UnsafeMutableRawBufferPointer? {
    let size = try FileStatus.of(descriptor: descriptor.rawValue).sizeBytes
    guard size >= Int64(MemoryGeometry.pageBytes), size <= Int64(WorkingSetLayout.maximumFileBytes) else { return nil }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(size), alignment: MemoryGeometry.pageBytes)
    guard let count = try? StoreFile.read(descriptor, buffer, at: 0, path: "working.set"), count == buffer.count else {
      buffer.deallocate()
      return nil
    }
    return buffer
  }
}
