/// An account of the guest, as /etc/passwd and /etc/group describe it.
package struct GuestUser: Sendable, Equatable {
  package let name: String
  package let uid: UInt32
  package let gid: UInt32
  /// Supplementary groups for setgroups(2): the groups that list the user as a member, and the primary group first.
  package let groups: [UInt32]
  /// Home directory; `/` when the entry has none.
  package let home: String
  /// Login shell; `/bin/sh` when the entry has none (passwd(5)).
  package let shell: String

  package init(name: String, uid: UInt32, gid: UInt32, groups: [UInt32], home: String, shell: String) {
    self.name = name
    self.uid = uid
    self.gid = gid
    self.groups = groups
    self.home = home
    self.shell = shell
  }
}

/// Why a user could not be looked up. The description is fit for the client.
package enum UserLookupError: Error, Sendable, Equatable, CustomStringConvertible {
  case unknownUser(String)
  /// The account files cannot be read; the reason is a system error's text.
  case unreadable(String)

  package var description: String {
    switch self {
    case .unknownUser(let name): "invalid username: '\(name)'"
    case .unreadable(let reason): "the guest's user database cannot be read: \(reason)"
    }
  }
}
