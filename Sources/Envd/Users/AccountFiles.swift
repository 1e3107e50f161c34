/// The parsed content of /etc/passwd and /etc/group.
///
/// Malformed lines, comments and NIS lines (`+…`) are skipped, like the C library does. The first one of several
/// entries with the same name or number counts.
///
/// Source: passwd(5), group(5)
struct AccountFiles: Sendable {
  private(set) var users: [String: GuestUser] = [:]
  private(set) var userNames: [UInt32: String] = [:]
  private(set) var groupNames: [UInt32: String] = [:]

  init(passwd: String, group: String) {
    let memberships = readGroups(group)
    for line in passwd.split(separator: "\n") {
      guard let user = Self.parseUser(line, memberships: memberships) else { continue }
      if users[user.name] == nil { users[user.name] = user }
      if userNames[user.uid] == nil { userNames[user.uid] = user.name }
    }
  }

  /// Fills `groupNames`. Returns, for each user name, the numbers of the groups that list it as a member.
  private mutating func readGroups(_ text: String) -> [String: [UInt32]] {
    var memberships: [String: [UInt32]] = [:]
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: ":", omittingEmptySubsequences: false)
      guard fields.count == 4, Self.isName(fields[0]), let gid = UInt32(fields[2]) else { continue }
      if groupNames[gid] == nil { groupNames[gid] = String(fields[0]) }
      for member in fields[3].split(separator: ",") {
        memberships[String(member), default: []].append(gid)
      }
    }
    return memberships
  }

  private static func parseUser(_ line: Substring, memberships: [String: [UInt32]]) -> GuestUser? {
    let fields = line.split(separator: ":", omittingEmptySubsequences: false)
    guard fields.count == 7, isName(fields[0]), let uid = UInt32(fields[2]), let gid = UInt32(fields[3]) else {
      return nil
    }
    let name = String(fields[0])
    var groups = [gid]
    for group in memberships[name, default: []] where !groups.contains(group) { groups.append(group) }
    return GuestUser(
      name: name, uid: uid, gid: gid, groups: groups,
      home: fields[5].isEmpty ? "/" : String(fields[5]), shell: fields[6].isEmpty ? "/bin/sh" : String(fields[6]))
  }

  private static func isName(_ field: Substring) -> Bool {
    guard let first = field.utf8.first else { return false }
    return first != UInt8(ascii: "#") && first != UInt8(ascii: "+") && first != UInt8(ascii: "-")
  }
}
