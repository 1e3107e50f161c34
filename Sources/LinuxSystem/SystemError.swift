import Glibc
package import SystemPackage

/// A failed system call: its name, its error, and the object of the call.
package struct SystemError: Error, Sendable, Equatable, CustomStringConvertible {
  package let call: String
  package let errno: Errno
  package let subject: String?

  package init(_ call: String, _ errno: Errno, subject: String? = nil) {
    self.call = call
    self.errno = errno
    self.subject = subject
  }

  /// The calling thread's current `errno`. Must be created directly after the failed call.
  package static func current(_ call: String, subject: String? = nil) -> SystemError {
    SystemError(call, Errno(rawValue: Glibc.errno), subject: subject)
  }

  package var description: String {
    guard let subject else { return "\(call): \(errno)" }
    return "\(call) \(subject): \(errno)"
  }
}

extension SystemError {
  /// Runs `body` and repeats it while signals interrupt it.
  @discardableResult
  package static func check<Result: BinaryInteger>(
    _ call: String, _ subject: @autoclosure () -> String? = nil, _ body: () -> Result
  ) throws(SystemError) -> Result {
    while true {
      let result = body()
      if result >= 0 { return result }
      if Glibc.errno == EINTR { continue }
      throw SystemError.current(call, subject: subject())
    }
  }
}
