import CLinux
import Glibc
import LinuxSystem
import SystemPackage

/// What `/init`, `/freeze` and `/unfreeze` do to the machine. As process 1 the agent uses `LinuxGuestMachine`;
/// elsewhere it changes nothing, because a developer's machine keeps its name, clock and random state.
package protocol GuestMachine: Sendable {
  /// Sets the wall clock.
  func setClock(_ time: WallClockTime) throws
  /// Mixes secret bytes into the kernel's random state and reseeds it at once, so that clones differ.
  func addEntropy(_ bytes: [UInt8]) throws
  /// Sets the host name in the kernel, in /etc/hostname and in /etc/hosts.
  func setHostname(_ name: String) throws
  /// Writes a new random /etc/machine-id.
  func renewMachineID() throws
  /// Writes dirty data back and freezes all user processes. Returns when they are frozen. Blocks.
  func freeze() throws
  /// Thaws the user processes. Idempotent.
  func thaw() throws
}

/// Changes nothing.
package struct UnmanagedMachine: GuestMachine {
  package init() {}

  package func setClock(_ time: WallClockTime) {}
  package func addEntropy(_ bytes: [UInt8]) {}
  package func setHostname(_ name: String) {}
  package func renewMachineID() {}
  package func freeze() {}
  package func thaw() {}
}

/// Changes the real machine; used when the agent is process 1.
package struct LinuxGuestMachine: GuestMachine {
  private static let hostsMark = "# martlet"

  private let userProcesses: UserCgroup?

  package init(userProcesses: UserCgroup?) {
    self.userProcesses = userProcesses
  }

  package func setClock(_ time: WallClockTime) throws {
    var value = timespec(tv_sec: Int(time.seconds), tv_nsec: Int(time.nanoseconds))
    try SystemError.check("clock_settime") { clock_settime(CLOCK_REALTIME, &value) }
  }

  package func addEntropy(_ bytes: [UInt8]) throws {
    let device = try OwnedDescriptor.open("/dev/urandom", O_RDWR)
    let result = martlet_guest_add_entropy(device.rawValue, bytes, bytes.count)
    guard result == 0 else {
      throw SystemError("ioctl(RNDADDENTROPY)", Errno(rawValue: -result), subject: "/dev/urandom")
    }
  }

  package func setHostname(_ name: String) throws {
    guard name != Self.currentHostname else { return }
    try SystemError.check("sethostname", name) { sethostname(name, name.utf8.count) }
    try Self.replace("/etc/hostname", with: Array("\(name)\n".utf8), mode: 0o644)
    let hosts = (try? SmallFile.readText("/etc/hosts")) ?? "127.0.0.1 localhost\n::1 localhost\n"
    try Self.replace("/etc/hosts", with: Array(Self.hosts(hosts, naming: name).utf8), mode: 0o644)
  }

  package func renewMachineID() throws {
    var generator = SystemRandomNumberGenerator()
    let words = (0..<4).map { _ in String(UInt64(generator.next() as UInt32) | 1 << 32, radix: 16).dropFirst() }
    try Self.replace("/etc/machine-id", with: Array((words.joined() + "\n").utf8), mode: 0o444)
  }

  private static var currentHostname: String {
    var buffer = [CChar](repeating: 0, count: 65)
    guard gethostname(&buffer, buffer.count - 1) == 0 else { return "" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Replaces a file atomically, but without fsync(2): every start of the guest writes it again and waits for it.
  private static func replace(_ path: FilePath, with content: [UInt8], mode: mode_t) throws(SystemError) {
    let temporary = path.string + ".new"
    let file = try OwnedDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: mode)
    let count = try SystemError.check("write", temporary) { write(file.rawValue, content, content.count) }
    guard count == content.count else { throw SystemError("write", .noSpace, subject: temporary) }
    try SystemError.check("fchmod", temporary) { fchmod(file.rawValue, mode) }
    try SystemError.check("rename", path.string) { rename(temporary, path.string) }
  }

  package func freeze() throws {
    // The first call leaves little to write while the processes are frozen; the second one writes what they wrote
    // meanwhile.
    sync()
    try userProcesses?.freeze()
    sync()
  }

  package func thaw() throws {
    try userProcesses?.thaw()
  }

  /// The text with one line that resolves the machine's own name, which sudo looks up at every call.
  package static func hosts(_ text: String, naming name: String) -> String {
    let others = text.split(separator: "\n", omittingEmptySubsequences: false).filter { !$0.hasSuffix(hostsMark) }
    var body = others.joined(separator: "\n")
    if !body.isEmpty && !body.hasSuffix("\n") { body += "\n" }
    return body + "127.0.1.1 \(name) \(hostsMark)\n"
  }
}
