import LinuxSystem
import Model
import SystemPackage

/// Preparation that every image gets, whatever made its tree.
extension RootTree {
  /// Directories that are searched for executables.
  private static let executableDirectories = ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin"]
  /// The default user of E2B's images.
  static let userName = "user"
  static let userID: UInt32 = 1_000

  /// Whether anything in the tree could run as a program.
  func hasExecutables() throws(SystemError) -> Bool {
    if try isExecutable("/bin/sh") { return true }
    for directory in Self.executableDirectories where try kind(directory) == 0o040000 {
      for name in try Directories.names(in: try resolve(directory)) {
        if try isExecutable("\(directory)/\(name)") { return true }
      }
    }
    return false
  }

  /// Makes mount points, resolver configuration and host names; empties directories whose content belongs to a running
  /// system.
  func prepareSystem(hostname: String) throws(SystemError) {
    for mountPoint in ["/proc", "/sys", "/dev", "/run"] {
      try empty(mountPoint)
      try makeDirectory(mountPoint)
    }
    try empty("/tmp")
    try makeDirectory("/tmp", permissions: 0o1777)
    try makeDirectory("/root", permissions: 0o700)
    try makeDirectory("/etc")
    try write("nameserver \(GuestContract.gatewayAddress)\n", to: "/etc/resolv.conf")
    try write("\(hostname)\n", to: "/etc/hostname")
    try write(
      "127.0.0.1 localhost\n127.0.1.1 \(hostname)\n::1 localhost ip6-localhost ip6-loopback\n", to: "/etc/hosts")
    // Present and empty: the init system or a user generates an id at the first start, so that clones have different
    // ones.
    try write("", to: "/etc/machine-id", permissions: 0o444)
  }

  /// Makes /etc/passwd and /etc/group usable: adds `root` if missing, and with `addingUser` also `user` with its home
  /// directory.
  func ensureAccounts(addingUser: Bool, shell: String) throws(SystemError) {
    var accounts = Accounts(passwd: try readText("/etc/passwd") ?? "", group: try readText("/etc/group") ?? "")
    accounts.ensure(name: "root", id: 0, home: "/root", shell: shell)
    if addingUser {
      accounts.ensure(name: Self.userName, id: Self.userID, home: "/home/\(Self.userName)", shell: shell)
    }
    try write(accounts.passwd, to: "/etc/passwd")
    try write(accounts.group, to: "/etc/group")
    try ensureShadow(of: addingUser ? ["root", Self.userName] : ["root"])
    guard addingUser else { return }
    try makeDirectory("/home")
    try makeDirectory("/home/\(Self.userName)", owner: Self.userID)
  }

  /// With shadow passwords, PAM (and so sudo) refuses an account without an entry in /etc/shadow. The added entries
  /// have no password but, unlike locked ones, permit key logins. Owner and permissions of the file stay. Source:
  /// shadow(5).
  private func ensureShadow(of names: [String]) throws(SystemError) {
    guard let shadow = try readText("/etc/shadow") else { return }
    let missing = names.filter { !Accounts.has($0, in: shadow) }.map { "\($0):*:19700:0:99999:7:::\n" }.joined()
    guard !missing.isEmpty else { return }
    try append((shadow.isEmpty || shadow.hasSuffix("\n") ? "" : "\n") + missing, to: "/etc/shadow")
  }

  /// The default user of processes in a tree that a tenant supplied, and that user's home directory.
  func defaultAccount() throws(SystemError) -> (user: String, home: String) {
    let accounts = Accounts(passwd: try readText("/etc/passwd") ?? "", group: "")
    for name in [Self.userName, "root"] {
      if let home = accounts.home(of: name), try kind(home) == 0o040000 { return (name, home) }
    }
    return ("root", "/")
  }
}

/// The text of /etc/passwd and /etc/group. Source: passwd(5), group(5).
struct Accounts: Equatable {
  private(set) var passwd: String
  private(set) var group: String

  init(passwd: String, group: String) {
    self.passwd = Self.endingWithNewline(passwd)
    self.group = Self.endingWithNewline(group)
  }

  /// Adds an account and a group of its name and id where they are missing; existing ones stay as they are.
  mutating func ensure(name: String, id: UInt32, home: String, shell: String) {
    if Self.fields(of: name, in: passwd) == nil { passwd += "\(name):x:\(id):\(id):\(name):\(home):\(shell)\n" }
    if Self.fields(of: name, in: group) == nil { group += "\(name):x:\(id):\n" }
  }

  /// An absolute home directory, or nil.
  func home(of name: String) -> String? {
    guard let fields = Self.fields(of: name, in: passwd), fields.count >= 7, fields[5].hasPrefix("/") else {
      return nil
    }
    let home = String(fields[5])
    return home.utf8.contains { $0 < 32 } ? nil : home
  }

  static func has(_ name: String, in text: String) -> Bool { fields(of: name, in: text) != nil }

  private static func fields(of name: String, in text: String) -> [Substring]? {
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: ":", omittingEmptySubsequences: false)
      if fields.first.map(String.init) == name { return fields }
    }
    return nil
  }

  private static func endingWithNewline(_ text: String) -> String {
    text.isEmpty || text.hasSuffix("\n") ? text : text + "\n"
  }
}
