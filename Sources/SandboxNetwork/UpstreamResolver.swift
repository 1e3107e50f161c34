import LinuxSystem
package import Model

/// Finds the DNS server that guests' queries are forwarded to.
package enum UpstreamResolver {
  /// The second file lists systemd-resolved's upstream servers when the first names its loopback stub. Source:
  /// systemd-resolved.service(8), "/etc/resolv.conf".
  package static let standardFiles = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]

  /// The first usable name server of the first file that has one. Unreadable files are skipped.
  package static func find(in files: [String]) -> IPv4Address? {
    for file in files {
      guard let text = try? SmallFile.readText(file) else { continue }
      if let address = nameServers(in: text).first(where: isUsable) { return address }
    }
    return nil
  }

  /// The IPv4 name servers of a resolv.conf(5), in order.
  package static func nameServers(in text: String) -> [IPv4Address] {
    text.split(whereSeparator: \.isNewline).compactMap { line in
      let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      guard words.count >= 2, words[0] == "nameserver" else { return nil }
      return IPv4Address(String(words[1]))
    }
  }

  /// Packets from a namespace cannot reach the host's loopback, so a server there cannot serve guests.
  private static func isUsable(_ address: IPv4Address) -> Bool {
    let first = address.value >> 24
    return first != 127 && first != 0 && first < 224
  }
}
