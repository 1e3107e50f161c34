import CLinux
import Glibc
import LinuxSystem
import NIOCore
import SystemPackage

/// Writes one upload while it arrives, in batches: few system calls, and the socket is read while a batch is written to
/// the disk.
///
/// Holds at most one batch. The connection holds a few reads more and then stops reading (back-pressure).
struct UploadStream {
  /// A batch is written when it has this many bytes …
  static let batchBytes = 524_288
  /// … or this many pieces, so that tiny chunks cannot accumulate.
  static let batchPieces = 256

  private let upload: OpenedUpload
  private var batch: [ByteBuffer] = []
  private var bytes = 0

  /// Creates or truncates the file.
  init(path: String, user: GuestUser) async throws {
    upload = try await FileThreads.run { try OpenedUpload.open(path, for: user) }
  }

  mutating func append(_ buffer: ByteBuffer) async throws {
    guard buffer.readableBytes > 0 else { return }
    batch.append(buffer)
    bytes += buffer.readableBytes
    if bytes >= Self.batchBytes || batch.count >= Self.batchPieces { try await flush() }
  }

  mutating func finish(metadata: FileMetadata) async throws -> UploadResult {
    let upload = upload
    let rest = take()
    try await FileThreads.run {
      try upload.write(rest)
      try upload.finish(metadata: metadata)
    }
    return UploadResult(path: upload.path, metadata: metadata)
  }

  /// Never throws and also works in a cancelled task, because a failed upload must not leave an incomplete file.
  func discard() {
    upload.discard()
  }

  private mutating func flush() async throws {
    let upload = upload
    let batch = take()
    try await FileThreads.run { try upload.write(batch) }
  }

  private mutating func take() -> [ByteBuffer] {
    defer {
      batch.removeAll(keepingCapacity: true)
      bytes = 0
    }
    return batch
  }
}

/// One element of the response to an upload.
///
/// Source: E2B's envd contract
struct UploadResult: Sendable, Equatable, Encodable {
  let path: String
  let name: String
  let type: String
  /// nil when there is none.
  let metadata: [String: String]?

  init(path: String, metadata: FileMetadata) {
    self.path = path
    name = LexicalPath.name(of: path)
    type = "file"
    self.metadata = metadata.values.isEmpty ? nil : metadata.values
  }
}

/// A file that is open for an upload. All methods block.
///
/// For inotify, creating a small file is exactly: create, attributes (the owner), modify. The owner is changed through
/// the descriptor, never by path, and only if the path names the file itself: a file that is reached through a symbolic
/// link, or that has other names, keeps its owner, so that a user cannot get another user's file by linking to it.
final class OpenedUpload: Sendable {
  static let mode: UInt32 = 0o644
  /// Buffers of one writev(2) at most. Source: IOV_MAX in limits.h
  private static let maximumVectors = 1_024

  let path: String
  private let descriptor: OwnedDescriptor
  private let directory: OwnedDescriptor
  /// Whether this upload has created the file. Only then a failed upload removes it.
  private let isNew: Bool

  private init(path: String, descriptor: OwnedDescriptor, directory: OwnedDescriptor, isNew: Bool) {
    self.path = path
    self.descriptor = descriptor
    self.directory = directory
    self.isNew = isNew
  }

  /// Creates or truncates the file at an absolute, clean path, and creates missing parent directories.
  static func open(_ path: String, for user: GuestUser) throws(FileFailure) -> OpenedUpload {
    guard path != "/" else { throw FileFailure(.invalidArgument, "path is a directory: \(path)") }
    let directory = try GuestDirectories.open(LexicalPath.parent(of: path), creatingFor: user)
    do {
      return try open(path, name: LexicalPath.name(of: path), in: directory, for: user)
    } catch let error as FileFailure {
      throw error
    } catch {
      throw (error as? SystemError).map { FileFailure($0, path: path) } ?? FileFailure.describing(error)
    }
  }

  private static func open(
    _ path: String, name: String, in directory: OwnedDescriptor, for user: GuestUser
  ) throws -> OpenedUpload {
    let flags = O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK
    let created = clinux_openat(directory.rawValue, name, flags | O_CREAT | O_EXCL, mode)
    if created >= 0 {
      let upload = OpenedUpload(path: path, descriptor: OwnedDescriptor(created), directory: directory, isNew: true)
      do {
        try SystemError.check("fchown", path) { fchown(created, user.uid, user.gid) }
      } catch {
        upload.discard()
        throw error
      }
      return upload
    }
    guard errno == EEXIST else { throw SystemError.current("open", subject: path) }
    return try openExisting(path, name: name, in: directory, flags: flags, for: user)
  }

  private static func openExisting(
    _ path: String, name: String, in directory: OwnedDescriptor, flags: Int32, for user: GuestUser
  ) throws -> OpenedUpload {
    var opened = clinux_openat(directory.rawValue, name, flags | O_NOFOLLOW, 0)
    let isLink = opened < 0 && errno == ELOOP
    if isLink { opened = clinux_openat(directory.rawValue, name, flags | O_CREAT, mode) }
    // A pipe without a reader or a socket.
    if opened < 0, errno == ENXIO { throw FileFailure(.invalidArgument, "path '\(path)' is not a regular file") }
    let descriptor = OwnedDescriptor(try SystemError.check("open", path) { opened })
    var status = stat()
    try SystemError.check("fstat", path) { fstat(descriptor.rawValue, &status) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileFailure(.invalidArgument, "path '\(path)' is not a regular file")
    }
    if !isLink && status.st_nlink == 1 {
      try SystemError.check("fchown", path) { fchown(descriptor.rawValue, user.uid, user.gid) }
    }
    if status.st_size > 0 { try SystemError.check("ftruncate", path) { ftruncate(descriptor.rawValue, 0) } }
    return OpenedUpload(path: path, descriptor: descriptor, directory: directory, isNew: false)
  }

  /// Appends all buffers, with one writev(2) if the kernel takes them at once.
  func write(_ buffers: [ByteBuffer]) throws(FileFailure) {
    var buffers = buffers[...]
    do {
      while let first = buffers.first {
        if first.readableBytes == 0 {
          buffers.removeFirst()
        } else {
          Self.consume(try gather(buffers), from: &buffers)
        }
      }
    } catch {
      throw FileFailure(error, path: path)
    }
  }

  /// - Returns: the number of bytes written, which is less than offered when the disk becomes full.
  private func gather(_ buffers: ArraySlice<ByteBuffer>) throws(SystemError) -> Int {
    var vectors: [iovec] = []
    vectors.reserveCapacity(buffers.count)
    return try SystemError.check("write", path) {
      Self.collect(buffers, into: &vectors) { writev(descriptor.rawValue, $0, Int32($0.count)) }
    }
  }

  /// Calls `body` with vectors that are valid only during the call.
  private static func collect(
    _ buffers: ArraySlice<ByteBuffer>, into vectors: inout [iovec], _ body: ([iovec]) -> Int
  ) -> Int {
    guard let buffer = buffers.first, vectors.count < maximumVectors else { return body(vectors) }
    return buffer.withUnsafeReadableBytes { bytes in
      vectors.append(iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count))
      return collect(buffers.dropFirst(), into: &vectors, body)
    }
  }

  private static func consume(_ count: Int, from buffers: inout ArraySlice<ByteBuffer>) {
    var count = count
    while count > 0, var buffer = buffers.popFirst() {
      let step = min(count, buffer.readableBytes)
      count -= step
      guard step < buffer.readableBytes else { continue }
      buffer.moveReaderIndex(forwardBy: step)
      buffers.insert(buffer, at: buffers.startIndex)
    }
  }

  /// Finishes a complete upload. The file then has the client's content, or an error was thrown.
  func finish(metadata: FileMetadata) throws(FileFailure) {
    do {
      try metadata.replace(on: descriptor)
    } catch {
      throw FileFailure(error, path: path)
    }
    descriptor.close()
  }

  /// For system calls in other files of this module; -1 after `finish`.
  var rawDescriptor: Int32 { descriptor.rawValue }

  /// Renames the file within its directory, replacing any file of that name.
  func rename(to name: String) throws(FileFailure) {
    do {
      try SystemError.check("rename", path) {
        renameat(directory.rawValue, LexicalPath.name(of: path), directory.rawValue, name)
      }
    } catch {
      throw FileFailure(error, path: LexicalPath.joined(LexicalPath.parent(of: path), name))
    }
  }

  /// Ends a failed upload: removes the file if this upload has created it and its name still refers to it.
  func discard() {
    guard isNew else { return }
    var opened = stat()
    var named = stat()
    let name = LexicalPath.name(of: path)
    guard fstat(descriptor.rawValue, &opened) == 0, fstatat(directory.rawValue, name, &named, AT_SYMLINK_NOFOLLOW) == 0
    else { return }
    if opened.st_ino == named.st_ino && opened.st_dev == named.st_dev { unlinkat(directory.rawValue, name, 0) }
  }
}
