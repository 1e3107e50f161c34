import CLinux
import Glibc
import LinuxSystem
import Model
package import SystemPackage

/// Pages that a guest needs first after a restore, packed so that one sequential read brings all of them.
///
/// Only a cache: a file that is damaged in any way, or does not fit the memory, is as good as none. What is read is
/// compared with the checksums that the memory's own layers have, so that no file can bring in other bytes than the
/// layers would.
package final class WorkingSet: @unchecked Sendable {
  // Unchecked for the buffer: nobody writes to it after `init`.
  /// It saves round trips; it is not the whole memory (L-23). 32 MiB.
  package static let maximumPages = 8_192

  struct Run: Equatable {
    var first: UInt32
    var count: UInt32
  }

  private let file: UnsafeMutableRawBufferPointer
  private let dataOffset: Int
  let runs: [Run]

  /// The working set at `path`, when there is one and all of it is right for `image`. Blocks.
  package static func load(_ path: FilePath, for image: MemoryImage) -> WorkingSet? {
    guard let file = try? contents(of: path) else { return nil }
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

  /// Whether every page has the checksum that the memory's layers have for it; zero pages are not in a working set.
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

  private static func contents(of path: FilePath) throws(SystemError) -> UnsafeMutableRawBufferPointer? {
    // What is no plain file has no size, and must not be waited for.
    let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    let size = try FileStatus.of(descriptor: descriptor.rawValue).sizeBytes
    guard size >= Int64(MemoryGeometry.pageBytes), size <= Int64(WorkingSetLayout.maximumFileBytes) else { return nil }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(size), alignment: MemoryGeometry.pageBytes)
    guard let count = try? StoreFile.read(descriptor, buffer, at: 0, path: path), count == buffer.count else {
      buffer.deallocate()
      return nil
    }
    return buffer
  }
}
