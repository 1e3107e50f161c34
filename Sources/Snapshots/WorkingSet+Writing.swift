import Glibc
import LinuxSystem
package import Model
package import SystemPackage

extension WorkingSet {
  /// Writes the working set of `image` to `path`, replacing an older one as a whole. Blocks. The file is not
  /// synchronized: after a power failure it may be missing.
  ///
  /// - Parameter pages: in any order. Zero pages, duplicates, and pages after the first `maximumPages` are left out.
  /// - Returns: the number of pages written.
  /// - Throws: `snapshot_damaged` when one of the pages is damaged; `insufficient_storage`, `internal`.
  @discardableResult
  package static func write(_ pages: [PageIndex], of image: MemoryImage, to path: FilePath) throws(MartletError) -> Int
  {
    let stored = pages.lazy.filter { page in
      guard (0..<image.pageCount).contains(page), case .stored = image.source(of: page) else { return false }
      return true
    }
    let layout = WorkingSetLayout(stored.prefix(maximumPages))
    for run in layout.runs {
      let pages = Int(run.first)..<(Int(run.first) + Int(run.count))
      if let damaged = image.firstDamaged(in: pages) { throw image.damage(at: damaged) }
    }
    try storing("the snapshot's working set could not be written") { () throws(SystemError) in
      try replace(path, layout, image)
    }
    return layout.pageCount
  }

  /// Writes a working set from pages that were recorded in runs.
  @discardableResult
  package static func write(
    _ runs: [Range<PageIndex>], of image: MemoryImage, to path: FilePath
  ) throws(MartletError) -> Int {
    try write(runs.flatMap { Array($0.prefix(maximumPages)) }, of: image, to: path)
  }

  private static func replace(_ path: FilePath, _ layout: WorkingSetLayout, _ image: MemoryImage) throws(SystemError) {
    let temporary = FilePath("\(path.string).\(getpid()).new")
    // A temporary file that a dead process with the same process id left.
    try StoreFile.remove(temporary)
    do throws(SystemError) {
      try StoreFile.create(temporary, layout.encodedHead(), mode: 0o600)
      let descriptor = try OwnedDescriptor.open(temporary.string, O_WRONLY | O_NOFOLLOW)
      var offset = layout.dataOffset
      for run in layout.runs {
        for extent in image.extents(in: Int(run.first)..<(Int(run.first) + Int(run.count))) {
          guard case .stored(let stored) = extent.source else { continue }
          try StoreFile.write(descriptor, stored.bytes, at: offset, path: temporary)
          offset += stored.bytes.count
        }
      }
      try SystemError.check("rename", path.string) { rename(temporary.string, path.string) }
    } catch {
      unlink(temporary.string)
      throw error
    }
  }
}
