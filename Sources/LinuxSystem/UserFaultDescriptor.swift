import CLinux
import Glibc
package import SystemPackage

/// A message of a userfaultfd.
package enum UserFaultEvent: Sendable, Equatable {
  /// A thread waits for the page at this address (not rounded).
  case page(address: UInt64)
  /// The pages of this range are being removed: they are empty as soon as this message has been read.
  case remove(Range<UInt64>)
  case other
}

/// A buffer for messages of a userfaultfd in the kernel's format.
package struct UserFaultMessages {
  package static let bytesPerMessage = Int(CLINUX_USERFAULT_MESSAGE_BYTES)

  let memory: UnsafeMutableRawBufferPointer

  /// - Precondition: `memory` is aligned to 8 bytes and outlives this.
  package init(_ memory: UnsafeMutableRawBufferPointer) {
    self.memory = memory
  }

  package var capacity: Int { memory.count / Self.bytesPerMessage }

  /// `other` where the buffer holds no message.
  package subscript(index: Int) -> UserFaultEvent {
    var raw = clinux_userfault_event()
    let bytes = UnsafeRawBufferPointer(
      rebasing: memory[(index * Self.bytesPerMessage)..<((index + 1) * Self.bytesPerMessage)])
    clinux_userfault_decode(bytes.baseAddress, &raw)
    return UserFaultEvent(raw)
  }

  package func clear(_ index: Int) {
    let message = memory[(index * Self.bytesPerMessage)..<((index + 1) * Self.bytesPerMessage)]
    UnsafeMutableRawBufferPointer(rebasing: message).initializeMemory(as: UInt8.self, repeating: 0)
  }
}

/// Progress of a userfaultfd operation, and the reason why it stopped.
package struct UserFaultOutcome: Sendable, Equatable {
  /// Bytes placed from the start of the range.
  package let bytes: Int
  /// Nil when the whole range was placed.
  package let failure: Errno?
}

/// A userfaultfd(2): resolves the page faults of another process.
///
/// Source: ioctl_userfaultfd(2); Linux, Documentation/admin-guide/mm/userfaultfd.rst
package final class UserFaultDescriptor: Sendable {
  package static let linkName = "anon_inode:[userfaultfd]"

  private let descriptor: OwnedDescriptor
  /// Readable when messages wait.
  package let rawValue: Int32

  /// Takes ownership of a descriptor that came from another process.
  /// - Throws: `SystemError` with EINVAL when it is not a userfaultfd.
  package init(adopting descriptor: OwnedDescriptor) throws(SystemError) {
    guard clinux_userfault_is(descriptor.rawValue) != 0 else {
      throw SystemError("adopt", .invalidArgument, subject: "a descriptor that is not a userfaultfd")
    }
    // poll(2) works only for non-blocking userfaultfds.
    try SystemError.check("fcntl") { fcntl(descriptor.rawValue, F_SETFL, O_NONBLOCK) }
    self.descriptor = descriptor
    rawValue = descriptor.rawValue
  }

  /// For a process that serves its pages.
  package func copyForChild() -> OwnedDescriptor { descriptor }

  /// The userfaultfd that a living process holds open; nil when it has none.
  package static func taken(from pid: Int32) throws(SystemError) -> UserFaultDescriptor? {
    guard let number = number(in: pid) else { return nil }
    let pidfd = OwnedDescriptor(try SystemError.check("pidfd_open") { clinux_pidfd_open(pid) })
    let copy = clinux_pidfd_getfd(pidfd.rawValue, number)
    guard copy >= 0 else { throw SystemError("pidfd_getfd", Errno(rawValue: -copy), subject: "process \(pid)") }
    return try UserFaultDescriptor(adopting: OwnedDescriptor(copy))
  }

  /// The number of the first userfaultfd among the descriptors of a process.
  package static func number(in pid: Int32) -> Int32? {
    let names = (try? Directories.names(in: FilePath("/proc/\(pid)/fd"))) ?? []
    return names.compactMap { Int32($0) }.sorted().first { link(of: "/proc/\(pid)/fd/\($0)") == linkName }
  }

  /// Reads waiting messages, at most the capacity of `messages`. The kernel writes them there before this process can
  /// end.
  ///
  /// The thread that caused a removal continues as soon as the kernel takes the message from its queue, which is before
  /// this returns.
  /// - Returns: the number of messages; 0 when none waits.
  package func read(into messages: UserFaultMessages) throws(SystemError) -> Int {
    let count = clinux_userfault_read(rawValue, messages.memory.baseAddress, Int32(messages.capacity))
    guard count >= 0 else { throw SystemError("read", Errno(rawValue: -count), subject: "userfaultfd") }
    return Int(count)
  }

  /// Places pages with the content at `source`, and wakes the threads that wait for them.
  /// - Parameter protects: whether writes to them are tracked from now on.
  package func copy(to address: UInt64, from source: UnsafeRawPointer, bytes: Int, protects: Bool) -> UserFaultOutcome {
    var done: UInt64 = 0
    let result = clinux_userfault_copy(rawValue, address, source, UInt64(bytes), protects ? 1 : 0, &done)
    return UserFaultOutcome(bytes: Int(done), failure: result < 0 ? Errno(rawValue: -result) : nil)
  }

  /// Places zero pages, and wakes the threads that wait for them.
  package func zero(at address: UInt64, bytes: Int) -> UserFaultOutcome {
    var done: UInt64 = 0
    let result = clinux_userfault_zero(rawValue, address, UInt64(bytes), &done)
    return UserFaultOutcome(bytes: Int(done), failure: result < 0 ? Errno(rawValue: -result) : nil)
  }

  /// Wakes all threads that wait for pages of a range; they fault again.
  package func wake(at address: UInt64, bytes: UInt64) throws(SystemError) {
    let result = clinux_userfault_wake(rawValue, address, bytes)
    guard result >= 0 else { throw SystemError("UFFDIO_WAKE", Errno(rawValue: -result)) }
  }

  private static func link(of path: String) -> String? {
    var buffer = [CChar](repeating: 0, count: 256)
    let count = readlink(path, &buffer, buffer.count)
    return count < 0 ? nil : String(decoding: buffer[0..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

extension UserFaultEvent {
  init(_ raw: clinux_userfault_event) {
    switch Int(raw.kind) {
    case CLINUX_USERFAULT_PAGE: self = .page(address: raw.start)
    case CLINUX_USERFAULT_REMOVE where raw.start <= raw.end: self = .remove(raw.start..<raw.end)
    default: self = .other
    }
  }
}
