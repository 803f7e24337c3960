//! Completion scripts. They know nothing themselves: they hand the words to `__complete` and take its answer, so that new flags and new
//! containers are there at once. Its protocol is that of the library of Docker's client, so that scripts made for that work too.

/// Shells that [`script`] writes for.
pub const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// The completion script for a shell, `None` if the shell is not known.
pub fn script(program: &str, shell: &str) -> Option<String> {
    let text = match shell {
        "bash" => BASH,
        "fish" => FISH,
        "zsh" => ZSH,
        _ => return None,
    };
    Some(text.replace("PROGRAM", program))
}

/// Bash splits words at colons and equal signs, which names of images and flags have; the line itself is taken apart at blanks instead,
/// and what stands before the last such sign is not repeated.
const BASH: &str = r#"# bash completion for PROGRAM
_PROGRAM() {
    local line="${COMP_LINE:0:COMP_POINT}" answer directive=0 current before
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]}-1]}"
    before="${current%"${current##*[:=]}"}"
    COMPREPLY=()
    while IFS= read -r answer; do
        case $answer in
            :[0-9]*) directive="${answer#:}" ;;
            *)
                answer="${answer%%$'\t'*}"
                [[ $answer == "$current"* ]] && COMPREPLY+=("${answer#"$before"}")
                ;;
        esac
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    if (( directive & 2 )); then
        compopt -o nospace 2>/dev/null
    fi
    if (( ! (directive & 4) )) && (( ${#COMPREPLY[@]} == 0 )); then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "${current##*[:=]}")
    fi
}
complete -F _PROGRAM PROGRAM
"#;

const ZSH: &str = r#"#compdef PROGRAM
# zsh completion for PROGRAM
_PROGRAM() {
    local answer directive=0
    local -a candidates
    while IFS= read -r answer; do
        if [[ $answer == :<-> ]]; then
            directive=${answer#:}
        elif [[ $answer == *$'\t'* ]]; then
            candidates+=("${${answer%%$'\t'*}//:/\\:}:${answer#*$'\t'}")
        elif [[ -n $answer ]]; then
            candidates+=("${answer//:/\\:}")
        fi
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#candidates} )); then
        _describe -t values PROGRAM candidates
    elif (( ! (directive & 4) )); then
        _files
    fi
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _PROGRAM "$@"
else
    compdef _PROGRAM PROGRAM
fi
"#;

const FISH: &str = r#"# fish completion for PROGRAM
function __PROGRAM_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l answers ($words[1] __complete $words[2..-1] 2>/dev/null)
    set -l directive (string replace : "" -- $answers[-1])
    if test (count $answers) -gt 1
        printf "%s\n" $answers[1..-2]
    else if test "$directive" = 0
        __fish_complete_path (commandline -ct)
    end
end
complete -c PROGRAM -e
complete -c PROGRAM -f -a "(__PROGRAM_complete)"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_asks_the_program() {
        for shell in SHELLS {
            let script = script("wharf", shell).expect("known");
            assert!(
                script.contains("__complete") && !script.contains("PROGRAM"),
                "{shell}"
            );
        }
        assert!(script("wharf", "tcl").is_none());
    }
}
