import CLinux
import Glibc
import LinuxSystem
import SystemPackage

/// `pager.failure` in the run directory: the reason why a pager ended its VM, for the tenant. Empty as long as there
/// was no failure.
///
/// The file is opened at the start, so that a signal handler can write a failure.
struct PagerFailureFile {
  static let fileName = "pager.failure"
  static let maximumBytes = 1_023

  private let descriptor: OwnedDescriptor

  init(in runDirectory: FilePath) throws(SystemError) {
    let path = runDirectory.appending(Self.fileName).string
    descriptor = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
  }

  func write(_ sentence: String) {
    let bytes = Array(sentence.utf8.prefix(Self.maximumBytes))
    _ = Glibc.write(descriptor.rawValue, bytes, bytes.count)
  }

  /// From now on, a read error in a mapped layer ends this process and the VM (once it is known), with `sentence` as
  /// the reason.
  func armBusError(_ sentence: String, machine: ProcessHandle?) throws(SystemError) {
    let result = clinux_end_on_bus_error(
      descriptor.rawValue, sentence, machine?.pollDescriptor ?? -1, PagerExitCode.unservable.rawValue)
    guard result >= 0 else { throw SystemError("sigaction", Errno(rawValue: -result)) }
  }

  /// The reason in a run directory; nil when there is none.
  static func read(in runDirectory: FilePath) -> String? {
    guard let bytes = try? SmallFile.read(runDirectory.appending(fileName).string), !bytes.isEmpty else { return nil }
    return String(decoding: bytes.prefix(maximumBytes), as: UTF8.self)
  }

  static func remove(in runDirectory: FilePath) {
    unlink(runDirectory.appending(fileName).string)
  }
}
