import APIClient
import Glibc
import LinuxSystem
import NIOCore
import NIOPosix
import SystemPackage

/// A file on this machine. Calls block a thread of NIO's pool, never the cooperative pool.
struct LocalFile: Sendable {
  let descriptor: Int32
  let path: String

  /// - Throws: `OperatingSystemError` with the path.
  static func open(_ path: String, flags: Int32, mode: mode_t = 0) async throws -> LocalFile {
    try await blocking {
      while true {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, mode)
        if descriptor >= 0 { return LocalFile(descriptor: descriptor, path: path) }
        guard errno == EINTR else { throw OperatingSystemError(path) }
      }
    }
  }

  /// The status of a path; nil if it does not exist.
  static func status(_ path: String, followingLinks: Bool) async throws -> FileStatus? {
    try await blocking { () throws -> FileStatus? in
      do throws(SystemError) {
        return try FileStatus.of(path, followingLinks: followingLinks)
      } catch {
        throw OperatingSystemError(path, code: error.errno.rawValue)
      }
    }
  }

  /// Names in a directory, sorted.
  /// - Throws: `OperatingSystemError`; `APIError` for a name that is not UTF-8, which JSON cannot represent.
  static func names(in path: String) async throws -> [String] {
    try await blocking {
      guard let directory = opendir(path) else { throw OperatingSystemError(path) }
      defer { closedir(directory) }
      var names: [String] = []
      errno = 0
      while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
          pointer.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)) {
            String(validatingCString: $0)
          }
        }
        guard let name else {
          throw APIError(.inputOutput, "\(path) has a name that is not UTF-8; rename it, or copy an archive instead")
        }
        if name != ".", name != ".." { names.append(name) }
        errno = 0
      }
      guard errno == 0 else { throw OperatingSystemError(path) }
      return names.sorted()
    }
  }

  /// Creates a directory; succeeds if it exists. Without `followingLinks` a symbolic link to a directory is an error,
  /// so that names from a guest cannot lead outside the destination.
  static func makeDirectory(_ path: String, followingLinks: Bool) async throws {
    let result = try await blocking { mkdir(path, 0o777) == 0 ? 0 : errno }
    guard result != 0 else { return }
    guard result == EEXIST, try await status(path, followingLinks: followingLinks)?.kind == .directory else {
      throw OperatingSystemError(path, code: result == EEXIST ? ENOTDIR : result)
    }
  }

  static func rename(_ source: String, to destination: String) async throws {
    try await blocking {
      guard Glibc.rename(source, destination) == 0 else { throw OperatingSystemError(destination) }
    }
  }

  /// Removes a file; ignores errors.
  static func remove(_ path: String) async {
    _ = try? await blocking { unlink(path) }
  }

  func status() async throws -> FileStatus {
    try await Self.blocking { () throws -> FileStatus in
      do throws(SystemError) {
        return try FileStatus.of(descriptor: descriptor)
      } catch {
        throw OperatingSystemError(path, code: error.errno.rawValue)
      }
    }
  }

  func setMode(_ mode: UInt32) async throws {
    try await Self.blocking {
      guard fchmod(descriptor, mode_t(mode & 0o777)) == 0 else { throw OperatingSystemError(path) }
    }
  }

  /// Reads the next bytes; nil at the end of the file.
  func read(maximumBytes: Int) async throws -> ByteBuffer? {
    try await Self.blocking {
      var buffer = ByteBufferAllocator().buffer(capacity: maximumBytes)
      var result = -1
      repeat {
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: maximumBytes) { bytes in
          result = Glibc.read(descriptor, bytes.baseAddress, maximumBytes)
          return max(0, result)
        }
      } while result < 0 && errno == EINTR
      guard result >= 0 else { throw OperatingSystemError(path) }
      return result == 0 ? nil : buffer
    }
  }

  /// Closes the file. Reports errors that arise only at the close (quota, network file systems).
  func close() async throws {
    try await Self.blocking {
      guard Glibc.close(descriptor) == 0 else { throw OperatingSystemError(path) }
    }
  }

  private static func blocking<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result
  {
    try await NIOThreadPool.singleton.runIfActive(body)
  }
}

/// The chunks of a source, read on demand.
struct FileChunks: AsyncSequence, Sendable {
  /// Larger than a chunk on the network, to save switches to the thread pool.
  private static let chunkBytes = 256 << 10

  typealias Element = ByteBuffer

  let next: @Sendable (_ maximumBytes: Int) async throws -> ByteBuffer?
  let progress: CopyProgress

  struct AsyncIterator: AsyncIteratorProtocol {
    let chunks: FileChunks

    mutating func next() async throws -> ByteBuffer? {
      guard let chunk = try await chunks.next(FileChunks.chunkBytes) else { return nil }
      await chunks.progress.add(chunk.readableBytes)
      return chunk
    }
  }

  func makeAsyncIterator() -> AsyncIterator { AsyncIterator(chunks: self) }
}
