import LinuxSystem

/// Which files had which digest when they were last read. A file that changes on disk is another one.
struct VerifiedFiles {
  /// One entry takes some hundred bytes; when there are more, all is read again.
  private static let maximumCount = 16_384

  private(set) var digests: [FileStatus.Identity: String] = [:]

  func contains(_ file: FileStatus.Identity, digest: String) -> Bool {
    digests[file] == digest
  }

  mutating func insert(_ file: FileStatus.Identity, digest: String) {
    if digests.count >= Self.maximumCount { digests.removeAll() }
    digests[file] = digest
  }
}
