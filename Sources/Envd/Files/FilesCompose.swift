import CLinux
import Glibc
import LinuxSystem
import NIOCore
import SystemPackage

/// `POST /files/compose`: concatenates files into one and deletes them.
///
/// The destination appears complete or not at all: it is written under a temporary name in the same directory and
/// renamed.
///
/// Source: E2B's envd contract
struct FilesCompose: Sendable, Decodable {
  /// Longest request body.
  static let maximumBodyBytes = 1_048_576
  static let maximumSources = 10_000

  let sourcePaths: [String]
  let destination: String
  let username: String?

  enum CodingKeys: String, CodingKey {
    case sourcePaths = "source_paths"
    case destination
    case username
  }

  /// Composes the file. Blocks.
  func run(user: GuestUser, defaultWorkdir: String?) throws(FileFailure) -> UploadResult {
    guard !sourcePaths.isEmpty, sourcePaths.count <= Self.maximumSources else {
      throw FileFailure(.invalidArgument, "source_paths must name 1 to \(Self.maximumSources) files")
    }
    guard !destination.isEmpty else { throw FileFailure(.invalidArgument, "destination is required") }
    let target = try LexicalPath.resolve(destination, home: user.home, defaultWorkdir: defaultWorkdir)
    var sources: [String] = []
    for path in sourcePaths {
      let source = try LexicalPath.resolve(path, home: user.home, defaultWorkdir: defaultWorkdir)
      guard source != target else {
        throw FileFailure(.invalidArgument, "source path '\(path)' cannot be the same as the destination")
      }
      // Opened before anything is written, so that a missing source changes nothing.
      _ = try DownloadedFile.open(source)
      sources.append(source)
    }
    try compose(sources, into: target, user: user)
    for source in sources { unlink(source) }
    return UploadResult(path: target, metadata: FileMetadata())
  }

  private func compose(_ sources: [String], into target: String, user: GuestUser) throws(FileFailure) {
    let temporary = LexicalPath.joined(
      LexicalPath.parent(of: target), ".compose-\(UInt64.random(in: 1...UInt64.max)).tmp")
    let upload = try OpenedUpload.open(temporary, for: user)
    do {
      for source in sources { try upload.append(contentsOf: DownloadedFile.open(source)) }
      try upload.rename(to: LexicalPath.name(of: target))
    } catch {
      upload.discard()
      throw FileFailure.describing(error)
    }
  }
}

extension OpenedUpload {
  /// Bytes of one copy_file_range(2) at most.
  private static let copyBytes = 16_777_216

  /// Appends a whole file, inside the kernel if the file systems support it. Blocks.
  func append(contentsOf file: DownloadedFile) throws(FileFailure) {
    do {
      while true {
        let count = try copyRange(from: file.descriptor)
        if count == 0 { return }
      }
    } catch {
      // These file systems do not support it: the rest is copied through memory.
      guard [EXDEV, EINVAL, EOPNOTSUPP, ENOSYS].contains(error.errno.rawValue) else {
        throw FileFailure(error, path: path)
      }
    }
    let position = lseek(file.descriptor.rawValue, 0, SEEK_CUR)
    let reader = FileChunkReader(file.descriptor, path: file.path, offset: Int64(max(position, 0)), length: nil)
    while case let chunk = try reader.next(), chunk.readableBytes > 0 { try write([chunk]) }
  }

  private func copyRange(from source: OwnedDescriptor) throws(SystemError) -> Int {
    try SystemError.check("copy_file_range", path) {
      clinux_copy_file_range(source.rawValue, rawDescriptor, Self.copyBytes)
    }
  }
}
