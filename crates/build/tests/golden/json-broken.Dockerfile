FROM a
CMD ["a"
CMD [a]
CMD ["a"] b
