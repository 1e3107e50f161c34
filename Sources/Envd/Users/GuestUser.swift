/// A user account of the guest, as in /etc/passwd and /etc/group.
package struct GuestUser: Sendable, Equatable {
  package let name: String
  package let uid: UInt32
  package let gid: UInt32
  /// Groups for setgroups(2): the primary group first, then the groups that list the user as a member.
  package let groups: [UInt32]
  /// Home directory; `/` if the entry has none.
  package let home: String
  /// Login shell; `/bin/sh` if the entry has none (passwd(5)).
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

/// Why a user could not be looked up. Clients see the description.
package enum UserLookupError: Error, Sendable, Equatable, CustomStringConvertible {
  case unknownUser(String)
  /// The account files cannot be read. The value is a system error's text.
  case unreadable(String)

  package var description: String {
    switch self {
    case .unknownUser(let name): "invalid username: '\(name)'"
    case .unreadable(let reason): "the guest's user database cannot be read: \(reason)"
    }
  }
}
