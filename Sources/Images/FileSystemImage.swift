import Glibc
import LinuxSystem
import SystemPackage

/// Makes an ext4 image from a directory tree without mounting anything.
///
/// The options come from measurements of online growth in a guest under emulation (qcow2 overlay, kernel 6.1): 0.5 GiB
/// to 5 GiB takes 0.04 s, to 1 TiB 7 s. Inode tables are zeroed here, where that costs nothing (the file is sparse), so
/// that no kernel thread writes them in every new sandbox. Beyond the reserved descriptor blocks the kernel changes to
/// meta_bg by itself. Source: mke2fs(8), ext4(5).
enum FileSystemImage {
  static let blockBytes: Int64 = 4_096
  static let bytesPerInode: Int64 = 16_384
  static let journalMiB: Int64 = 16
  static let minimumBytes: Int64 = 64 << 20
  /// Free space in the image for writes before the file system grows to the size of the sandbox's disk.
  static let slackBytes: Int64 = 48 << 20
  private static let roundingBytes: Int64 = 16 << 20
  /// The time that mke2fs writes for every time stamp instead of the clock's, so that equal trees give nearly equal
  /// images.
  private static let fixedTime = "1700000000"

  /// All features are listed, so that the host's /etc/mke2fs.conf has no influence.
  private static let features = [
    "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg", "sparse_super",
    "large_file",
    "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
  ]

  /// Disk blocks and inodes that a tree uses, as counted by du(1).
  struct Content: Equatable, Sendable {
    var blocks: Int64
    var inodes: Int64
  }

  /// Size of a file system for a content: data, journal, metadata, inodes and slack.
  static func sizeBytes(for content: Content) -> Int64 {
    let data = content.blocks * blockBytes * 11 / 10 + (journalMiB << 20) + slackBytes
    let inodes = (content.inodes + 1_024) * bytesPerInode * 11 / 10
    let needed = max(minimumBytes, data, inodes)
    return (needed + roundingBytes - 1) / roundingBytes * roundingBytes
  }

  static func measure(_ tree: RootTree, deadline: Duration) async throws -> Content {
    let blocks = try await Tool.run("du", ["-s", "-x", "-B", "\(blockBytes)", tree.root.string], deadline: deadline)
      .checked()
    let inodes = try await Tool.run("du", ["-s", "-x", "--inodes", tree.root.string], deadline: deadline).checked()
    return Content(blocks: try number(blocks), inodes: try number(inodes))
  }

  /// - Parameters:
  ///   - identity: what the file system's UUID and hash seed are derived from.
  static func make(
    _ tree: RootTree, at image: FilePath, sizeBytes: Int64, identity: String, deadline: Duration
  ) async throws {
    let digest = FileDigest.sha256(of: identity).hexadecimal
    try create(image, sizeBytes: sizeBytes)
    let arguments = [
      "-q", "-F", "-t", "ext4", "-b", "\(blockBytes)", "-i", "\(bytesPerInode)", "-I", "256", "-m", "1", "-J",
      "size=\(journalMiB)",
      "-G", "16", "-O", (["none"] + features).joined(separator: ","), "-U", uuid(digest),
      "-E",
      "lazy_itable_init=0,lazy_journal_init=1,nodiscard,root_owner=0:0,hash_seed=\(uuid(String(digest.dropFirst(32))))",
      "-L", "martlet", "-d", tree.root.string, image.string,
    ]
    let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "E2FSPROGS_FAKE_TIME": fixedTime]
    try await Tool.run("mkfs.ext4", arguments, environment: environment, deadline: deadline).checked()
  }

  /// Bytes allocated for a file on disk.
  static func allocatedBytes(of image: FilePath) throws(SystemError) -> Int64 {
    var status = stat()
    try SystemError.check("lstat", image.string) { lstat(image.string, &status) }
    return Int64(status.st_blocks) * 512
  }

  private static func create(_ image: FilePath, sizeBytes: Int64) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(image.string, O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
    try SystemError.check("ftruncate", image.string) { ftruncate(descriptor.rawValue, Int(sizeBytes)) }
  }

  private static func uuid(_ digits: String) -> String {
    let parts = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32]
    let digits = Array(digits)
    return parts.map { String(digits[$0]) }.joined(separator: "-")
  }

  private static func number(_ output: ToolOutput) throws -> Int64 {
    guard let word = output.outputText.split(whereSeparator: \.isWhitespace).first, let number = Int64(word),
      number >= 0
    else {
      throw ManifestError("du printed something that is not a number")
    }
    return number
  }
}
