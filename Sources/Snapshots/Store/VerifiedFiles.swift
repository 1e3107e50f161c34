import LinuxSystem

/// The digests that files had when they were last read. A file that changes on disk gets another identity.
struct VerifiedFiles {
  /// One entry takes some hundred bytes. When the limit is reached, all entries are dropped and files are read again.
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
