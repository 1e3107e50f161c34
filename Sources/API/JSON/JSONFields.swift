import Model

/// Reads the members of a JSON object by name and type.
///
/// Unknown names are refused: if a misspelt `memory_mib` were ignored, the sandbox would have the wrong size. `null`
/// counts as absent. Every error is `invalid_request` and names the field.
struct JSONFields {
  /// Number of characters of a client's field name that an error message quotes.
  private static let shownCharacters = 48

  private let values: [String: JSONValue]
  private let prefix: String

  /// - Parameters:
  ///   - allowed: names of the object's permitted fields.
  ///   - prefix: path of the object in the document, ending with a dot.
  init(_ value: JSONValue, allowed: [String], prefix: String = "") throws(MartletError) {
    guard case .object(let pairs) = value else {
      let name = prefix.isEmpty ? "the body" : String(prefix.dropLast())
      throw MartletError(.invalidRequest, "\(name) must be a JSON object")
    }
    var values: [String: JSONValue] = [:]
    for pair in pairs {
      guard allowed.contains(pair.name) else { throw Self.unknown(pair.name, allowed, prefix) }
      if pair.value != .null { values[pair.name] = pair.value }
    }
    self.values = values
    self.prefix = prefix
  }

  func string(_ name: String) throws(MartletError) -> String? {
    guard let value = values[name] else { return nil }
    guard case .string(let text) = value else { throw wrong(name, "a string", value) }
    return text
  }

  func requiredString(_ name: String) throws(MartletError) -> String {
    guard let text = try string(name) else { throw MartletError(.invalidRequest, "\(prefix)\(name) is required") }
    return text
  }

  func integer(_ name: String) throws(MartletError) -> Int? {
    guard let value = values[name] else { return nil }
    switch value {
    case .integer(let number):
      return Int(number)
    case .number(let number):
      guard let number = Int(exactly: number) else { throw wrong(name, "a whole number", value) }
      return number
    default:
      throw wrong(name, "a whole number", value)
    }
  }

  func bool(_ name: String) throws(MartletError) -> Bool? {
    guard let value = values[name] else { return nil }
    guard case .bool(let flag) = value else { throw wrong(name, "a boolean", value) }
    return flag
  }

  func strings(_ name: String) throws(MartletError) -> [String]? {
    guard let value = values[name] else { return nil }
    guard case .array(let elements) = value else { throw wrong(name, "a list of strings", value) }
    var list: [String] = []
    for element in elements {
      guard case .string(let text) = element else { throw wrong(name, "a list of strings", value) }
      list.append(text)
    }
    return list
  }

  func map(_ name: String) throws(MartletError) -> [String: String]? {
    guard let value = values[name] else { return nil }
    guard case .object(let pairs) = value else { throw wrong(name, "an object with string values", value) }
    var map: [String: String] = [:]
    for pair in pairs {
      guard case .string(let text) = pair.value else { throw wrong(name, "an object with string values", value) }
      map[pair.name] = text
    }
    return map
  }

  func object(_ name: String, allowed: [String]) throws(MartletError) -> JSONFields? {
    guard let value = values[name] else { return nil }
    return try JSONFields(value, allowed: allowed, prefix: "\(prefix)\(name).")
  }

  /// The value of a field that may be a string or an integer, as text.
  func scalar(_ name: String) throws(MartletError) -> String? {
    guard let value = values[name] else { return nil }
    switch value {
    case .string(let text): return text
    case .integer(let number): return String(number)
    default: throw wrong(name, "a string or a number", value)
    }
  }

  func has(_ name: String) -> Bool { values[name] != nil }

  private func wrong(_ name: String, _ expected: String, _ value: JSONValue) -> MartletError {
    MartletError(.invalidRequest, "\(prefix)\(name) must be \(expected), not \(value.kind)")
  }

  private static func unknown(_ name: String, _ allowed: [String], _ prefix: String) -> MartletError {
    let shown = String(name.prefix(shownCharacters))
    guard let near = Suggestion.nearest(to: name, among: allowed) else {
      return MartletError(
        .invalidRequest, "unknown field \"\(prefix)\(shown)\"; known are \(allowed.joined(separator: ", "))")
    }
    return MartletError(.invalidRequest, "unknown field \"\(prefix)\(shown)\"; did you mean \"\(prefix)\(near)\"?")
  }
}
