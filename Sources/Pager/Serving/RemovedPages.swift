package import LinuxSystem
import Snapshots
package import SystemPackage

/// The pages that a guest has removed from its memory (`removed.pages` in the run directory). They are zero from then
/// on, whatever the generation contains.
///
/// The file is mapped and survives the pager: a successor and the next snapshot read it. It also contains the pager's
/// inbox.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | magic `MARTLETR` |
/// | 8 | 8 | number of pages, little-endian |
/// | 64 | 2056 | `MessageInbox` |
/// | 4096 | 8 × ⌈pages / 64⌉ | one bit per page, lowest first |
package struct RemovedPages {
  package static let fileName = "removed.pages"
  private static let magic: UInt64 = 0x5254_454C_5452_414D
  private static let headerBytes = 4_096
  private static let inboxOffset = 64

  package let bitmap: PageBitmap
  let inbox: MessageInbox

  /// Opens the file in a run directory, or makes an empty one.
  /// - Throws: `SystemError` with EINVAL when the file has another format or size.
  package init(in runDirectory: FilePath, pageCount: Int) throws(SystemError) {
    let path = runDirectory.appending(Self.fileName)
    let size = Self.headerBytes + PageBitmap.bytes(for: pageCount)
    if let status = try FileStatus.of(path.string, followingLinks: false), status.sizeBytes != 0,
      status.sizeBytes != Int64(size)
    {
      throw SystemError("open", .invalidArgument, subject: path.string)
    }
    let file = try SharedFile(path, sizeBytes: size)
    let header = file.bytes.bindMemory(to: UInt64.self)
    let isNew = header[0] == 0 && header[1] == 0
    guard
      isNew || (UInt64(littleEndian: header[0]) == Self.magic && UInt64(littleEndian: header[1]) == UInt64(pageCount))
    else {
      throw SystemError("open", .invalidArgument, subject: path.string)
    }
    header[1] = UInt64(pageCount).littleEndian
    header[0] = Self.magic.littleEndian
    inbox = MessageInbox(file, offset: Self.inboxOffset)
    bitmap = PageBitmap(
      UnsafeMutableRawBufferPointer(rebasing: file.bytes[Self.headerBytes...]), pageCount: pageCount, owner: file)
  }

  /// All pages that a stopped guest has removed, including those that its pager has read and not recorded.
  /// - Throws: `SystemError` with ETIMEDOUT when a running pager makes no progress.
  func settled(in regions: MemoryRegions) throws(SystemError) -> PageBitmap {
    let missing = try inbox.waitUntilSettled()
    guard !missing.isEmpty else { return bitmap }
    let all = PageBitmap(copying: bitmap)
    for pages in missing.flatMap(regions.pages(in:)) { all.insert(pages) }
    return all
  }
}
