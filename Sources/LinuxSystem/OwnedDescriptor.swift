import CLinux
import Concurrency
import Glibc
import SystemPackage

/// A file descriptor that is closed exactly once: by `close()`, or with the last reference.
package final class OwnedDescriptor: Sendable {
  private let value: Mutex<Int32>

  /// Takes ownership of `rawValue`.
  package init(_ rawValue: Int32) {
    value = Mutex(rawValue)
  }

  deinit {
    close()
  }

  /// The descriptor number, or -1 after `close()`.
  package var rawValue: Int32 { value.withLock { $0 } }

  package func close() {
    value.withLock { descriptor in
      if descriptor >= 0 { _ = Glibc.close(descriptor) }
      descriptor = -1
    }
  }

  /// Returns the number and gives up ownership; the caller must close it.
  package func release() -> Int32 {
    value.withLock { descriptor in
      defer { descriptor = -1 }
      return descriptor
    }
  }

  /// Opens a file; `O_CLOEXEC` is always added.
  package static func open(_ path: String, _ flags: Int32, mode: UInt32 = 0) throws(SystemError) -> OwnedDescriptor {
    let descriptor = try SystemError.check("open", path) { clinux_open(path, flags | O_CLOEXEC, mode) }
    return OwnedDescriptor(descriptor)
  }

  /// A pidfd of a running process.
  /// - Returns: nil when there is no process of this number, which only ESRCH proves.
  /// - Throws: every other error, such as EMFILE.
  package static func process(_ pid: Int32) throws(SystemError) -> OwnedDescriptor? {
    let descriptor = clinux_pidfd_open(pid)
    guard descriptor >= 0 else {
      let failure = SystemError.current("pidfd_open", subject: "process \(pid)")
      guard failure.errno == .noSuchProcess else { throw failure }
      return nil
    }
    return OwnedDescriptor(descriptor)
  }

  /// A pipe; both ends are close-on-exec.
  package static func pipe(extraFlags: Int32 = 0) throws(SystemError) -> (read: OwnedDescriptor, write: OwnedDescriptor)
  {
    var ends: [Int32] = [-1, -1]
    let failure = clinux_pipe(&ends, O_CLOEXEC | extraFlags)
    guard failure == 0 else { throw SystemError.current("pipe2") }
    return (OwnedDescriptor(ends[0]), OwnedDescriptor(ends[1]))
  }

  /// Makes a file of `sizeBytes` zeros in memory that can be neither written, nor mapped for writing, nor resized
  /// (memfd_create(2)).
  package static func sealedMemory(name: String, sizeBytes: Int64) throws(SystemError) -> OwnedDescriptor {
    OwnedDescriptor(try SystemError.check("memfd_create", name) { clinux_sealed_memory(name, UInt64(sizeBytes)) })
  }

  /// Sends `bytes` with a duplicate of this descriptor over a Unix stream socket, without blocking.
  /// - Throws: `EAGAIN` when the socket does not accept all bytes at once.
  package func send(with bytes: [UInt8], over socket: Int32) throws(SystemError) {
    let count = try SystemError.check("sendmsg") { clinux_send_descriptor(socket, bytes, bytes.count, rawValue) }
    guard count == bytes.count else { throw SystemError("sendmsg", .resourceTemporarilyUnavailable) }
  }

  package static func eventDescriptor() throws(SystemError) -> OwnedDescriptor {
    OwnedDescriptor(try SystemError.check("eventfd") { eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK)) })
  }
}
