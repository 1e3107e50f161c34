import LinuxSystem
import SystemPackage

/// The Debian archives that the host's own apt uses, reduced to those that a Debian base system needs.
///
/// Third-party archives are left out: an entry counts only if it has the component `main` and a suite of the Debian
/// archive itself. Both the one-line and the deb822 format are read. Source: sources.list(5).
enum AptSources {
  /// Used inside images, and for building when the host has no entry for this release (its own Debian release differs).
  static func debianDefaults(release: String) -> String {
    """
    Types: deb
    URIs: http://deb.debian.org/debian
    Suites: \(release) \(release)-updates
    Components: main
    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

    Types: deb
    URIs: http://deb.debian.org/debian-security
    Suites: \(release)-security
    Components: main
    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

    """
  }

  /// The host's entries for a release as one-line sources, in file order; empty when there are none.
  static func ofHost(release: String) -> [String] {
    var lines: [String] = []
    let folder = "/etc/apt/sources.list.d"
    let names = ((try? Directories.names(in: "/etc/apt/sources.list.d")) ?? []).sorted()
    for path in ["/etc/apt/sources.list"] + names.map({ "\(folder)/\($0)" }) {
      guard let text = try? SmallFile.readText(path) else { continue }
      lines +=
        path.hasSuffix(".sources")
        ? entries(deb822: text, release: release)
        : path.hasSuffix(".list") ? entries(oneLine: text, release: release) : []
    }
    return lines
  }

  static func entries(oneLine text: String, release: String) -> [String] {
    text.split(separator: "\n").compactMap { line -> String? in
      var words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace).map(String.init)
      guard words.first == "deb" else { return nil }
      words.removeFirst()
      if words.first?.hasPrefix("[") == true {
        guard let end = words.firstIndex(where: { $0.hasSuffix("]") }) else { return nil }
        words.removeSubrange(0...end)
      }
      guard words.count >= 3, words.dropFirst(2).contains("main") else { return nil }
      return entry(uri: words[0], suite: words[1], release: release)
    }
  }

  static func entries(deb822 text: String, release: String) -> [String] {
    stanzas(text).flatMap { fields -> [String] in
      func words(_ key: String) -> [String] {
        (fields[key] ?? "").split(whereSeparator: \.isWhitespace).map(String.init)
      }
      guard words("types").contains("deb"), words("components").contains("main"),
        fields["enabled"]?.lowercased() != "no"
      else { return [] }
      return words("uris").flatMap { uri in words("suites").compactMap { entry(uri: uri, suite: $0, release: release) }
      }
    }
  }

  private static func entry(uri: String, suite: String, release: String) -> String? {
    guard [release, "\(release)-updates", "\(release)-security"].contains(suite) else { return nil }
    return "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \(uri) \(suite) main"
  }

  private static func stanzas(_ text: String) -> [[String: String]] {
    var stanzas: [[String: String]] = [[:]]
    var key: String?
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) where !line.hasPrefix("#") {
      if line.allSatisfy(\.isWhitespace) {
        stanzas.append([:])
        key = nil
      } else if let first = line.first, first.isWhitespace, let key {
        stanzas[stanzas.count - 1][key, default: ""] += " \(line)"
      } else if let colon = line.firstIndex(of: ":") {
        key = line[..<colon].lowercased()
        stanzas[stanzas.count - 1][key ?? ""] =
          line[line.index(after: colon)...].trimmingPrefix { $0.isWhitespace }.description
      }
    }
    return stanzas
  }
}
