"""The paper's tables, remade by one command: experiments are small files, results are files, tables are built from results only."""
